"use strict";
// Keeps everything on the device: after the first visit the page needs no network. The list and its version are written
// when it is exported. Another version replaces everything once no page is open: files of two versions do not go together.
// What the page has just loaded is not sent again: the host is only asked whether it is still what it was. The browser
// compares what comes with the SHA-256 of each file. While an upload goes on, or a cache on the way is stale, one differs;
// then nothing is kept, and the next visit tries again.
// An origin may have several pages, each in its folder, which share one list of caches.
const OURS = `fieldmark ${self.registration.scope} `;
const VERSION = OURS + "{{ digest }}";
const FILES = {{ files | embedded }};

self.addEventListener("install", (event) => {
  const wanted = Object.entries(FILES).map(([name, integrity]) => new Request(name, { cache: "no-cache", integrity }));
  event.waitUntil(caches.open(VERSION).then((cache) => cache.addAll(wanted)));
});
self.addEventListener("activate", (event) => {
  event.waitUntil((async () => {
    for (const name of await caches.keys()) if (name !== VERSION && name.startsWith(OURS)) await caches.delete(name);
    await self.clients.claim();
  })());
});
self.addEventListener("fetch", (event) => {
  if (event.request.method !== "GET") return;
  event.respondWith(caches.open(VERSION).then(async (cache) => (await cache.match(event.request, { ignoreSearch: true })) || fetch(event.request)));
});
