"use strict";
// What is said about a verdict, beside its name. A verdict has the keys of the service's answer (fieldmark.serving.answers),
// whoever gives it.

const capital = (text) => text.charAt(0).toUpperCase() + text.slice(1);

/** A share in words; no answer is certain, and none is impossible. */
function shareOf(share) {
  if (share > 0.999) return "over 99.9 %";
  if (share < 0.001) return "under 0.1 %";
  return `${(100 * share).toFixed(share < 0.1 || share >= 0.99 ? 1 : 0)} %`;
}

/** What is promised of names, to the last digit. */
const promiseOf = (share) => `right at least ${Number((100 * share).toPrecision(6))} % of the time`;

/** The sentences that go with a verdict. */
function sentencesOf(verdict) {
  const told = [];
  if (verdict.sureness !== null) told.push(`${capital(shareOf(verdict.sureness))} sure.`);
  if (verdict.reason) told.push(`${capital(verdict.reason)}.`);
  if (verdict.familiar === false) told.push(`It looks most like ${verdict.label}.`);
  if (verdict.promised !== null) told.push(`Names given like this one are ${promiseOf(verdict.promised)}, as promised.`);
  if (verdict.possible && verdict.possible.length > 1) told.push(`Cannot be ruled out: ${listed(verdict.possible)}.`);
  for (const [attribute, trait] of Object.entries(verdict.attributes ?? {}))
    told.push(`${capital(attribute)}: ${trait.value} (${shareOf(trait.probability)}).`);
  return told;
}

function listed(names, most = 8) {
  const rest = names.length > most ? ` and ${names.length - most} more` : "";
  return names.slice(0, most).join(", ") + rest;
}
