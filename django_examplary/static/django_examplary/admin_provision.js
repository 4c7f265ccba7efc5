/**
 * The page "Provision users": asks for one short batch after the other, and shows how far it got.
 *
 * Without this the button does one batch per click. All state is in the server's rows and in the
 * address, so the page can be stopped, left and opened again.
 */

const RETRY_AFTER = 3000;

const form = document.querySelector("form[data-examplary-provision]");
const start = form?.querySelector("[type=submit]");
const stop = form?.querySelector("[type=button]");
let stopping = false;
const stopped = new Promise((resolve) => stop?.addEventListener("click", resolve));

/** Wait, but not for longer than somebody wants to. */
const sleep = (milliseconds) =>
  Promise.race([stopped, new Promise((resolve) => setTimeout(resolve, milliseconds))]);

/** Ask for the next batch, for as long as it takes the server to answer. */
async function nextBatch() {
  while (!stopping) {
    try {
      const answer = await fetch(location.href, {
        method: "POST",
        body: new FormData(form),
        headers: { Accept: "application/json" },
      });
      if (answer.ok && !answer.redirected) {
        return await answer.json();
      }
      if (answer.status < 500) {
        // Signed out, or no longer allowed to: the server explains.
        return { finished: true, url: location.href };
      }
    } catch {
      // The server is being restarted, or the network is down.
    }
    say(form.dataset.trying);
    await sleep(RETRY_AFTER);
  }
  return { finished: true, url: location.href };
}

function show(text) {
  form.querySelector("[data-text]").textContent = text;
}

/** Show it, and have it read out too. */
function say(text) {
  show(text);
  form.querySelector("[role=status]").textContent = text;
}

async function run() {
  stop.hidden = false;
  stop.focus();
  start.hidden = true;
  form.querySelector("[data-progress]").hidden = false;
  document.querySelectorAll("[data-before]").forEach((element) => element.remove());
  const bar = form.querySelector("progress");
  let batch = {};
  let said = 0;
  while (!batch.finished && !stopping) {
    await sleep((batch.pause ?? 0) * 1000);
    batch = await nextBatch();
    if (batch.text) {
      bar.max = batch.total;
      bar.value = batch.done;
      // A batch takes a second: read out, each of them would be a nuisance.
      const tenth = Math.floor((10 * batch.done) / batch.total);
      (tenth === said ? show : say)(batch.text);
      said = tenth;
      // Whoever reloads the page, or comes back to it, finds it as far as it got.
      history.replaceState(null, "", batch.url);
    }
  }
  // The report is the server's to write.
  location.assign(batch.url);
}

form?.addEventListener("submit", (event) => {
  event.preventDefault();
  run();
});
stop?.addEventListener("click", () => {
  stopping = true;
  say(form.dataset.stopping);
});
