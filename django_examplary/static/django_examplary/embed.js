/**
 * <examplary-embed>: a frame that tells its page what became of the flow inside.
 *
 * A message from the frame only makes this ask the site's own server, which asks Examplary. What
 * the events below report is the server's answer; what the message said is never used.
 *
 * Events, all bubbling: examplary:completed, examplary:cancelled, examplary:closed,
 * examplary:error, with detail {status, outputs, redirect} or {reason, title, text, detail,
 * reference}. Unless the first three are prevented, the page goes on to `redirect`, if there is
 * one.
 *
 * `data-state` is idle, loading, loaded, ready, verifying, completed, cancelled, closed, ended,
 * failed, unverified, stale or offline. A frame that has loaded may show the browser's own error
 * page, and nobody can tell; it is ready when it has said something.
 */

const MESSAGE_TYPE = "examplary:embed-status-update";
const CLAIMS = new Set(["completed", "cancelled"]);
const FINAL = new Set(["completed", "cancelled", "closed"]);
const OVER = new Set(["expired", "revoked"]);
// The states in which the frame is there to be seen, and loads by itself.
const OPEN = new Set(["loading", "loaded", "ready"]);
// Those in which it has not said anything.
const WAITING = new Set(["loading", "loaded"]);
// Those in which there may be work in it.
const AT_WORK = new Set(["loaded", "ready"]);
// Those in which there is a session to end.
const ENDABLE = new Set(["loaded", "ready", "verifying", "unverified"]);
const BUSY = new Set(["loading", "verifying"]);
// What another launch does not mend, but another copy of the page does.
const STALE = new Set(["stale", "signed-out", "ended"]);
// The API may answer "pending" for a moment after the embed has said otherwise.
const PAUSES = [0, 500, 1000, 2000, 4000];

class ExamplaryEmbed extends HTMLElement {
  #frame;
  #stage;
  #form;
  #dialog;
  #help;
  #leaving;
  #status;
  // Ends what this element has going on in the page, when it is removed from it.
  #life;
  #patience;
  #visibility;
  #checking = null;
  // Whether the browser may yet put back the blank that was left of an embed that had finished.
  #isBack = false;
  #retry = () => this.reload();

  connectedCallback() {
    this.#frame = this.querySelector("iframe");
    this.#stage = this.querySelector("[data-examplary-stage]");
    this.#form = this.querySelector("form");
    this.#dialog = this.querySelector("dialog");
    this.#help = this.querySelector("[data-examplary-help]");
    this.#leaving = this.querySelector("[data-examplary-leaving]");
    this.#status = this.querySelector("[role=status]");
    this.querySelector("[data-examplary-unscripted]")?.remove();
    this.#life = new AbortController();
    this.#listen(this.#frame, "load", () => this.#onLoad());
    this.#listen(this, "submit", (event) => this.#onSubmit(event));
    this.#listen(this, "click", (event) => this.#onClick(event));
    this.#listen(window, "message", (event) => this.#onMessage(event));
    this.#listen(window, "offline", () => this.#onOffline());
    this.#listen(window, "online", () => this.#onOnline());
    if (this.#dialog) {
      this.#listen(this.#dialog, "cancel", (event) => this.#onEscape(event));
      this.#listen(this.#dialog, "keydown", (event) => this.#onEscape(event));
      this.#listen(this.#dialog, "close", () => this.#stay());
      // A copy that was kept of the page may have it open, and not as a modal.
      this.#dialog.close();
    }
    // A frame that nobody has scrolled to is not late.
    this.#visibility = new IntersectionObserver(
      (entries) => entries.at(-1).isIntersecting && this.#beginGrace(),
    );
    this.#begin();
  }

  disconnectedCallback() {
    this.#life.abort();
    this.#visibility.disconnect();
    clearTimeout(this.#patience);
    this.#checking = null;
    this.#dialog?.close();
  }

  /** A move that keeps the frame as it is (`moveBefore`) changes nothing here either. */
  connectedMoveCallback() {}

  /** Open the dialog, if there is one, and launch, if that is yet to be done. */
  open() {
    if (this.#dialog && !this.#dialog.open) {
      this.#dialog.showModal();
    }
    if (this.dataset.state === "idle" || FINAL.has(this.dataset.state)) {
      this.reload();
    }
  }

  /** Launch again in the same frame. */
  reload() {
    this.#retry = () => this.reload();
    if (!navigator.onLine) {
      this.#goOffline();
      return;
    }
    this.#show("loading");
    // Unlike a new `src` this leaves no step in the history, for Back to undo.
    this.#frame.contentWindow.location.replace(this.dataset.launchUrl);
  }

  /** End the session, if there is one, as the Done button does. */
  async close() {
    // A result that is being checked comes first.
    await this.#checking;
    if (ENDABLE.has(this.dataset.state)) {
      await this.#ask(this.dataset.closeUrl, [0]);
    }
  }

  #begin() {
    if (FINAL.has(this.dataset.state)) {
      // Put back as it was taken away.
      this.#show(this.dataset.state);
    } else if (!this.#frame.hasAttribute("src")) {
      this.#show("idle");
    } else {
      this.#show("loading");
      // Nobody looked at the page so far, so nothing was launched.
      this.#listen(document, "prerenderingchange", () => this.reload());
      // The frame is older than this script: it may have loaded already, or in part.
      if (!this.#isBlank()) {
        if (this.#frameDocument()?.readyState !== "loading") {
          this.#onLoad();
        }
      } else if (performance.getEntriesByType("navigation")[0]?.type === "back_forward") {
        // It may have done so already, or be about to when the page has loaded.
        this.#isBack = true;
        this.#listen(window, "load", () => this.#isBack && this.#leaveBlank());
      }
    }
  }

  #listen(target, type, listener) {
    target.addEventListener(type, listener, { signal: this.#life.signal });
  }

  #onLoad() {
    if (FINAL.has(this.dataset.state)) {
      // So that an element that is moved does not launch again. Not before it is blank: browsers
      // would make a step in the history of it.
      this.#frame.removeAttribute("src");
    }
    if (!OPEN.has(this.dataset.state) || document.prerendering) {
      return;
    }
    const page = this.#frameDocument();
    const problem = page?.querySelector("[data-examplary-problem]");
    if (problem) {
      this.#fail(problem);
    } else if (page && !this.#isBlank()) {
      // The frame has come back to this site.
      this.#ask(this.dataset.syncUrl, PAUSES);
    } else if (page && this.#isBack) {
      this.#isBack = false;
      this.#leaveBlank();
    } else if (!page && !navigator.onLine) {
      this.#goOffline();
    } else if (!page && this.dataset.state === "loading") {
      this.#show("loaded");
    }
  }

  /** Put something into a frame that the browser has left blank; in a dialog when it opens. */
  #leaveBlank() {
    if (this.dataset.state !== "loading" || !this.#isBlank()) {
      return;
    }
    if (this.#dialog && !this.#dialog.open) {
      this.#show("idle");
    } else {
      this.reload();
    }
  }

  /** The page in the frame, if it is this site's; of others nothing can be known. */
  #frameDocument() {
    try {
      return this.#frame.contentDocument;
    } catch {
      return null;
    }
  }

  #isBlank() {
    return this.#frameDocument()?.URL === "about:blank";
  }

  #onMessage(event) {
    if (
      event.source !== this.#frame.contentWindow ||
      !this.dataset.origins.split(" ").includes(event.origin) ||
      !OPEN.has(this.dataset.state)
    ) {
      return;
    }
    if (event.data?.type === MESSAGE_TYPE && CLAIMS.has(event.data.status)) {
      this.#ask(this.dataset.syncUrl, PAUSES);
    } else if (this.dataset.state !== "ready") {
      this.#show("ready");
    }
  }

  #onSubmit(event) {
    event.preventDefault();
    this.close();
  }

  #onClick(event) {
    const pressed = event.target.closest("[data-examplary-do]");
    // A link that is opened in another tab on purpose goes there.
    if (!pressed || event.ctrlKey || event.metaKey || event.shiftKey) {
      return;
    }
    event.preventDefault();
    switch (pressed.dataset.examplaryDo) {
      case "open":
        return this.open();
      case "reload":
        return this.reload();
      case "retry":
        return this.#retry();
      case "reload-page":
        return window.location.reload();
      case "hide-help":
        return this.#offerHelp(false);
      case "dismiss":
        return this.#dismiss();
      case "stay":
        return this.#stay();
      case "leave":
        return this.#dialog.close();
    }
  }

  #onOffline() {
    if (this.dataset.state === "loading") {
      this.#goOffline();
    }
  }

  #onOnline() {
    if (this.dataset.state === "offline") {
      this.#retry();
    }
  }

  #onEscape(event) {
    // Browsers also ask to close by other means than the key, but only once if they are refused.
    const asked = event.type === "cancel" ? event.target === this.#dialog : event.key === "Escape";
    if (!asked) {
      return;
    }
    event.preventDefault();
    if (this.#leaving.hidden) {
      this.#dismiss();
    } else {
      this.#stay();
    }
  }

  /** Close the dialog, unless there may be work in it that its user has to decide about. */
  #dismiss() {
    if ("confirmClose" in this.dataset && AT_WORK.has(this.dataset.state)) {
      this.#leaving.hidden = false;
      this.#leaving.querySelector("button").focus();
    } else {
      this.#dialog.close();
    }
  }

  #stay() {
    if (!this.#leaving.hidden) {
      this.#leaving.hidden = true;
      this.#frame.focus();
    }
  }

  /** Ask the server once at a time, however many messages come meanwhile. */
  #ask(url, pauses) {
    this.#checking ??= this.#askUntilFinal(url, pauses, this.#life.signal);
    return this.#checking;
  }

  async #askUntilFinal(url, pauses, signal) {
    this.#retry = () => this.#ask(url, pauses);
    this.#show("verifying");
    let answer;
    for (const pause of pauses) {
      await sleep(pause, signal);
      answer = signal.aborted ? null : await this.#post(url);
      if (signal.aborted) {
        return;
      }
      if (answer.status !== "pending") {
        break;
      }
    }
    this.#checking = null;
    this.#take(answer);
  }

  /** Show what the server says of the session. */
  #take(answer) {
    if (FINAL.has(answer.status)) {
      this.#finish(answer);
    } else if (OVER.has(answer.status) || answer.reason === "ended") {
      this.#show("ended");
      this.#dispatch("error", { reason: "ended" });
    } else if (answer.status) {
      // Examplary does not say, even by now, what the frame said. The frame will not say it again.
      this.#take({ reason: "pending" });
    } else if (answer.reason === "offline") {
      this.#goOffline();
    } else {
      const state = STALE.has(answer.reason) ? "stale" : "unverified";
      const { detail, reference } = answer;
      this.#fill(state, state === "stale" ? answer : { detail, reference });
      this.#show(state);
      this.#dispatch("error", answer);
    }
  }

  async #post(url) {
    try {
      const response = await fetch(url, {
        method: "POST",
        headers: { Accept: "application/json" },
        // Has the CSRF token; sites may give its header another name.
        body: new FormData(this.#form),
      });
      // Django's own refusals are pages: of another user's CSRF token, or of what there is no more.
      const refused = [403, 404].includes(response.status);
      const json = response.headers.get("Content-Type")?.startsWith("application/json");
      return refused && !json ? { reason: "stale" } : await response.json();
    } catch {
      return { reason: navigator.onLine ? "unavailable" : "offline" };
    }
  }

  #finish(answer) {
    this.#frame.contentWindow.location.replace("about:blank");
    this.#show(answer.status);
    if (this.#dispatch(answer.status, answer) && answer.redirect) {
      window.location.assign(answer.redirect);
    } else if (answer.status === "closed") {
      this.#dialog?.close();
    }
  }

  /** Show a problem that the launch had, from the page of ours that says so in the frame. */
  #fail(problem) {
    const find = (part) => problem.querySelector(`[data-examplary-${part}]`);
    const text = (part) => find(part)?.textContent ?? "";
    const facts = {
      reason: problem.dataset.examplaryProblem,
      title: text("title"),
      text: text("text"),
      detail: text("detail"),
      reference: find("reference")?.dataset.examplaryReference ?? "",
    };
    const state = STALE.has(facts.reason) ? "stale" : "failed";
    this.#fill(state, facts);
    this.#show(state);
    this.#dispatch("error", facts);
  }

  #goOffline() {
    this.#show("offline");
    this.#dispatch("error", { reason: "offline" });
  }

  /** Put texts into a panel; one that has no text of its own is hidden when there is none. */
  #fill(state, facts) {
    const panel = this.#panel(state);
    for (const [name, value] of Object.entries(facts)) {
      const place = panel.querySelector(`[data-examplary-${name}]`);
      if (place) {
        place.textContent = value ?? "";
        place.closest("p").hidden = !value;
      }
    }
  }

  #panel(state) {
    return this.querySelector(`[data-examplary-state="${state}"]`);
  }

  #dispatch(name, detail) {
    return this.dispatchEvent(
      new CustomEvent(`examplary:${name}`, { bubbles: true, cancelable: true, detail }),
    );
  }

  #show(state) {
    const focused = this.contains(document.activeElement) ? document.activeElement : null;
    this.dataset.state = state;
    const panel = this.#panel(state);
    for (const other of this.querySelectorAll("[data-examplary-state]")) {
      other.hidden = other !== panel;
    }
    if (!OPEN.has(state)) {
      this.#leaving.hidden = true;
    }
    this.#stage.setAttribute("aria-busy", BUSY.has(state));
    this.#status.textContent = panel ? textOf(panel) : "";
    this.#offerHelp(false);
    this.#awaitSign();
    // Whoever was in what has just gone from view goes on in what came instead.
    if (focused?.checkVisibility({ visibilityProperty: true }) === false) {
      (panel ?? this.#stage).focus();
    }
  }

  /** Count the grace time from when the frame comes into view. */
  #awaitSign() {
    clearTimeout(this.#patience);
    this.#visibility.disconnect();
    if (WAITING.has(this.dataset.state)) {
      this.#visibility.observe(this.#frame);
    }
  }

  #beginGrace() {
    this.#visibility.disconnect();
    this.#patience = setTimeout(() => {
      if (document.activeElement === this.#frame) {
        // Somebody is at work in there.
        this.#beginGrace();
      } else {
        this.#offerHelp(true);
      }
    }, Number(this.dataset.grace) * 1000);
  }

  /** Offer a way out, beside a frame that may or may not be all right. */
  #offerHelp(needed) {
    const late = needed && this.#help.hidden;
    this.#help.hidden = !needed;
    if (late) {
      this.#status.textContent = textOf(this.#help);
      this.#retry = () => this.#startOver();
    }
  }

  /** Launch again; but if the session is over, say so, or the launch would resume it. */
  async #startOver() {
    const { signal } = this.#life;
    const loaded = this.dataset.state === "loaded";
    this.#show("loading");
    const answer = loaded ? await this.#post(this.dataset.syncUrl) : {};
    if (signal.aborted) {
      return;
    }
    if (FINAL.has(answer.status)) {
      this.#finish(answer);
    } else {
      this.reload();
    }
  }
}

function sleep(milliseconds, signal) {
  return new Promise((resolve) => {
    const timer = setTimeout(resolve, milliseconds);
    signal.addEventListener("abort", () => {
      clearTimeout(timer);
      resolve();
    });
  });
}

function textOf(element) {
  const parts = [...element.querySelectorAll("p:not([hidden])")];
  return parts.map((part) => part.textContent.trim()).join(" ");
}

customElements.define("examplary-embed", ExamplaryEmbed);
