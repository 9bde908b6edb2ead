"use strict";
// What a service answers to the worker of an exported page (pocket/offline.js). A page that was tried at the same address
// has left one in the browser, which would show that page for ever in place of the service. This one takes its place,
// deletes what it kept, and goes.
self.addEventListener("install", () => self.skipWaiting());
self.addEventListener("activate", (event) => {
  event.waitUntil((async () => {
    const ours = `fieldmark ${self.registration.scope} `;
    for (const name of await caches.keys()) if (name.startsWith(ours)) await caches.delete(name);
    await self.registration.unregister();
    for (const page of await self.clients.matchAll({ type: "window" })) page.navigate(page.url);
  })());
});
