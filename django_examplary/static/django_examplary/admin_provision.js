/**
 * The page "Provision users": requests one short batch after the other, and shows the progress.
 *
 * Without this script each click does one batch. The rows and the URL hold all state, so staff can
 * stop, leave and reopen the page.
 */

const RETRY_AFTER = 3000;

const form = document.querySelector("form[data-examplary-provision]");
const start = form?.querySelector("[type=submit]");
const stop = form?.querySelector("[type=button]");
let stopping = false;
const stopped = new Promise((resolve) => stop?.addEventListener("click", resolve));

/** Wait until the time is over or the user clicks Stop. */
const sleep = (milliseconds) =>
  Promise.race([stopped, new Promise((resolve) => setTimeout(resolve, milliseconds))]);

/** Request the next batch, and retry until the server responds. */
async function nextBatch() {
  while (!stopping) {
    try {
      const response = await fetch(location.href, {
        method: "POST",
        body: new FormData(form),
        headers: { Accept: "application/json" },
      });
      if (response.ok && !response.redirected) {
        return await response.json();
      }
      if (response.status < 500) {
        // Signed out, or without the permission now: the page of the server explains it.
        return { finished: true, url: location.href };
      }
    } catch {
      // The server is being restarted, or the network is down.
    }
    announce(form.dataset.trying);
    await sleep(RETRY_AFTER);
  }
  return { finished: true, url: location.href };
}

function show(text) {
  form.querySelector("[data-text]").textContent = text;
}

/** Show a text and let screen readers announce it. */
function announce(text) {
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
  let lastTenth = 0;
  while (!batch.finished && !stopping) {
    await sleep((batch.pause ?? 0) * 1000);
    batch = await nextBatch();
    if (batch.text) {
      bar.max = batch.total;
      bar.value = batch.done;
      // Batches take a second each, too often for a screen reader to announce all of them.
      const tenth = Math.floor((10 * batch.done) / batch.total);
      (tenth === lastTenth ? show : announce)(batch.text);
      lastTenth = tenth;
      // A reload continues from here.
      history.replaceState(null, "", batch.url);
    }
  }
  // The server renders the report.
  location.assign(batch.url);
}

form?.addEventListener("submit", (event) => {
  event.preventDefault();
  run();
});
stop?.addEventListener("click", () => {
  stopping = true;
  announce(form.dataset.stopping);
});
