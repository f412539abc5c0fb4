// Two panes; when both have a recording, the server is asked for score and decision.
import { Pane } from "./pane.js";
import { ask } from "./server.js";

const $ = (id) => document.getElementById(id);
const about = await ask("about");
const names = ["Enroll", "Test"];
const panes = names.map((name) => new Pane(name, about, compare));
let asked = 0; // only the answer to the last request is shown

$("about").textContent = `The model ${about.model} compares them on the machine that serves this page and stores `
  + `nothing; at most ${about.seconds} s and ${about.megabytes} MB each.`;
$("panes").append(...panes.map((pane) => pane.element));
for (const event of ["dragover", "drop"]) { // a file dropped outside a pane would replace the page
  document.addEventListener(event, (drag) => drag.preventDefault());
}

async function compare() {
  const number = ++asked;
  show("waiting");
  const [enroll, test] = panes.map(({ heard }) => heard && { embedding: heard.embedding, seconds: heard.seconds });
  if (!enroll || !test) return;
  const doubts = panes.flatMap(({ heard }, side) => heard.doubts.map((doubt) => `${names[side]}: ${doubt}`));
  try {
    const headers = { "Content-Type": "application/json" };
    const answer = await ask("verify", { method: "POST", headers, body: JSON.stringify({ enroll, test }) });
    if (number === asked) showAnswer(answer, [...answer.doubts, ...doubts], [enroll.seconds, test.seconds]);
  } catch (error) {
    if (number !== asked) return;
    $("fault").textContent = error.message;
    show("fault");
  }
}

function show(id) {
  for (const part of ["waiting", "fault", "answer"]) $(part).hidden = part !== id;
}

function showAnswer(answer, doubts, seconds) {
  const decision = answer.same ? "Same speaker" : "Different speakers";
  $("decision").textContent = answer.same === null ? "No decision" : decision;
  const durations = seconds.map((s) => `${s.toFixed(2)} s`).join(" and ");
  const numbers = [["Score", answer.score.toFixed(4)], ["Durations", durations]];
  if (answer.same !== null) {
    numbers.push(["LLR", `${answer.llr.toFixed(2)}, ${answer.same ? "at or above" : "below"} the threshold of `
                         + `${answer.threshold.toFixed(2)} (${answer.operating})`]);
    numbers.push(["Probability of the same speaker", `${percent(answer.chance)}, for a prior of ${answer.prior} and if the `
                                                     + "calibration fits these recordings"]);
    showScale(answer.llr, answer.threshold);
  }
  $("scale").hidden = answer.same === null;
  $("numbers").replaceChildren(...numbers.flatMap(([name, value]) => [element("dt", name), element("dd", value)]));
  const none = "None of the checks failed; the model can still be wrong.";
  $("doubts").replaceChildren(...(doubts.length ? doubts : [none]).map((text) => element("li", text)));
  show("answer");
}

function showScale(llr, threshold) {
  const half = Math.max(6, Math.abs(llr), Math.abs(threshold)) / 0.6; // marks stay off the ends, for their texts
  const place = (value) => `${50 * (1 + value / half)}%`;
  $("llr-mark").style.setProperty("--at", place(llr));
  $("threshold-mark").style.setProperty("--at", place(threshold));
  $("different").style.width = place(threshold);
  $("same").style.width = `${100 - parseFloat(place(threshold))}%`;
  $("llr-text").textContent = `LLR ${llr.toFixed(2)}`;
  $("threshold-text").textContent = `threshold ${threshold.toFixed(2)}`;
  $("scale").setAttribute("aria-label", `LLR ${llr.toFixed(2)}, threshold ${threshold.toFixed(2)}`);
}

function element(name, text) {
  const made = document.createElement(name);
  made.textContent = text;
  return made;
}

function percent(share) {
  const value = 100 * share;
  return value > 99.9 ? "above 99.9 %" : value < 0.1 ? "below 0.1 %" : `${value.toFixed(1)} %`;
}
