"use strict";
// From a network's answers to a verdict, by the rules in a graph's metadata (fieldmark.exporting.rules). The same as
// fieldmark.evaluation.thresholds, and checked against it.

const NO_PROMISE = "no accuracy can be promised";

/** As Python rounds: a half goes to the even number. */
function percent(share) {
  const exact = 100 * share, near = Math.round(exact);
  return `${exact % 1 === 0.5 && near % 2 ? near - 1 : near} %`;
}

/** The probability of each name of a level: p (K), of (K) → (G). */
function summed(p, level) {
  const found = new Float64Array(level.names.length);
  level.of.forEach((name, k) => { found[name] += p[k]; });
  return found;
}

const largest = (values) => values.reduce((best, value, k) => (value > values[best] ? k : best), 0);

/** The value at x of the line through these points, which ascend. */
function interpolated(x, xs, ys) {
  if (x <= xs[0]) return ys[0];
  for (let i = 1; i < xs.length; i++) {
    if (x <= xs[i]) return ys[i - 1] + ((x - xs[i - 1]) / (xs[i] - xs[i - 1])) * (ys[i] - ys[i - 1]);
  }
  return ys[ys.length - 1];
}

/** How many of these ascending values are at most x. */
function numUpTo(x, values) {
  let low = 0, high = values.length;
  while (low < high) {
    const middle = (low + high) >> 1;
    if (values[middle] <= x) low = middle + 1; else high = middle;
  }
  return low;
}

/** What is said of one picture, from log-probabilities (K) and familiarity; the keys are those of the service's answer. */
function verdictOf(rules, logProbabilities, familiarity) {
  const found = judged(rules, logProbabilities, familiarity);
  return { ...found, said: saidOf(found), sureness: surenessOf(found) };
}

/** The same without words. */
function judged(rules, logProbabilities, familiarity) {
  const z = Float64Array.from(logProbabilities), p = z.map(Math.exp);
  const order = [...p.keys()].sort((a, b) => p[b] - p[a] || a - b);
  const found = {
    label: rules.classes[order[0]],
    probability: p[order[0]],
    candidates: order.slice(0, 5).map((k) => ({ label: rules.classes[k], probability: p[k] })),
    promised: null,
  };
  const known = rules.photographs ?? {};
  if (Object.hasOwn(known, found.label)) found.photographs = known[found.label];
  const v = rules.verdicts;
  if (!v) return found;
  const below = (numUpTo(familiarity, v.known) + 1) / (v.known.length + 1);
  found.familiar = below > 1 - v.accepted;
  Object.assign(found, { name: null, level: "none", certainty: null, possible: null });
  const top = z[order[0]], raised = z.map((one) => Math.exp(v.sharpness * (one - top)));
  const whole = raised.reduce((a, b) => a + b, 0);
  const confidences = rules.levels.map((level) => {
    const shares = summed(p, level), best = largest(shares), share = shares[best];
    const sure = v.sharpness === 1 ? share : interpolated(summed(raised, level)[best] / whole, v.sharpened, v.calibrated);
    return { best, share: Math.min(1, share), sure };
  });
  const promised = v.threshold !== undefined;
  const at = found.familiar && promised ? confidences.findIndex((one) => one.sure >= v.threshold) : -1;
  if (at >= 0) {
    const level = rules.levels[at], given = confidences[at];
    Object.assign(found, { name: level.names[given.best], level: level.name, certainty: given.share, promised: v.accuracy });
  }
  found.reason = reasonOf(rules, at, confidences, found.familiar, below);
  if (v.limits) {
    let above = 0;
    found.possible = [];
    order.forEach((k, rank) => {
      const score = above + v.penalty.weight * Math.max(0, rank + 1 - v.penalty.free);
      if ((rank === 0 || score <= v.limits[k]) && p[k] > 0) found.possible.push(rules.classes[k]);
      above += p[k];
    });
  }
  return found;
}

/** Why the answer is not a class; "" if it is. */
function reasonOf(rules, at, confidences, familiar, below) {
  const v = rules.verdicts;
  if (at === 0) return "";
  if (!familiar) return `less familiar than ${below >= 0.005 ? `${percent(1 - below)} of the known images` : "any known image"}`;
  if (v.threshold === undefined) return NO_PROMISE;
  const tried = rules.levels.slice(0, at < 0 ? rules.levels.length : at);
  const said = tried.map((level, k) => `${level.name} ${percent(confidences[k].sure)}`).join(", ");
  return `${said}; ${Number((100 * v.accuracy).toPrecision(6))} % accuracy requires ${percent(v.threshold)}`;
}

/** The answer in words, which differ wherever nobody vouches for it. */
function saidOf(verdict) {
  const n = verdict.photographs, shown = n ? ` (from ${n} photograph${n === 1 ? "" : "s"})` : "";
  if (verdict.name) {
    return verdict.name === verdict.label && !verdict.reason ? verdict.name + shown : `${verdict.name} (${verdict.level})`;
  }
  return verdict.familiar === false ? "no answer" : `likely ${verdict.label}${shown}, not vouched for`;
}

/** The probability that goes with what is said; null where a picture looks unlike every class. */
function surenessOf(verdict) {
  if (verdict.familiar === false) return null;
  return verdict.certainty === null || verdict.certainty === undefined ? verdict.probability : verdict.certainty;
}
