/**
 * <examplary-embed>: an iframe that reports the end of its flow to the page.
 *
 * A message from the iframe only makes this script post to the server of the site, which calls
 * Examplary. The events below contain the response of the server. The content of the message is
 * never used.
 *
 * Events, all bubbling: examplary:completed, examplary:cancelled, examplary:closed,
 * examplary:error, with detail {status, outputs, redirect} or {reason, title, text, detail,
 * reference}. Unless a handler prevents one of the first three, the page redirects to `redirect`,
 * if set.
 *
 * `data-state` is a key of STATES. A frame in the state "loaded" may show the browser's own error
 * page, which no script can detect; "ready" means that it has sent a message.
 *
 * The script does not change markup of the server. Everything that it adds is in a shadow tree,
 * which libraries that morph or boost the page do not touch. The iframe is never moved after it has
 * a URL, because that would reload it.
 *
 * This file runs as a module and as a classic script, in the head or at the end of the page.
 * Browsers of Baseline "widely available" are supported. Everything works from Safari and iPadOS
 * 15.4, Chrome and Edge 108, and Firefox 115 on, in light colours; older browsers behave as without
 * JavaScript. Features that some of these lack are checked before use, as
 * tests/browser/test_old_browsers.py verifies.
 */
(() => {
  "use strict";

  const MESSAGE_TYPE = "examplary:embed-status-update";
  const CLAIMS = ["completed", "cancelled"];
  // Reasons that a reload of the page resolves, but another launch does not.
  const STALE = ["stale", "signed-out", "other-account", "ended"];
  // Temporary reasons, for which the element retries automatically for a minute. The pauses grow
  // and vary, so that the users of a busy site do not retry at the same time.
  const TEMPORARY = ["preparing", "busy"];
  const PATIENT_PAUSES = [1000, 2000, 4000, ...Array(7).fill(8000)];
  // The API may return "pending" for a moment after the embed has reported its end.
  const PAUSES = [0, 500, 1000, 2000, 4000];
  // The server calls the API at most once a second.
  const QUIET_PAUSES = [0, 2000];

  // Timeout for a server or a proxy that never responds.
  const POST_LIMIT = 60_000;

  // listens: messages and loads of the frame count. silent: it has sent no message yet.
  // work: there may be unsaved work in it. session: there is a session to end.
  // bar: the line below the frame is in place. final: the session has ended.
  const STATES = {
    idle: {},
    loading: { listens: true, silent: true, bar: true },
    loaded: { listens: true, silent: true, work: true, session: true, bar: true },
    ready: { listens: true, work: true, session: true, bar: true },
    verifying: { session: true, bar: true },
    completed: { final: true },
    cancelled: { final: true },
    closed: { final: true },
    ended: {},
    failed: {},
    unverified: { session: true },
    stale: {},
    offline: {},
  };

  // Whether the browser went back to this page and may still restore its frames.
  let isRestoring = performance.getEntriesByType?.("navigation")[0]?.type === "back_forward";

  class ExamplaryEmbed extends HTMLElement {
    static observedAttributes = ["data-state"];

    #state;
    // The URL of the frame in the newest copy of the page.
    #src;
    // The URL `launch/<token>/` or `window/<token>/`, from which the others are derived.
    #base;
    // The session of the last launch. The attribute may belong to a newer copy of the page.
    #key;
    // The page of a one-time link posts this instead of a CSRF token.
    #token;
    #template;
    #frame;
    #slot;
    #stage;
    #bar;
    #help;
    #done;
    #status;
    #dialog;
    #panel = null;
    #isLeaving = false;
    #isTyping = false;
    #isRestored = false;
    // Aborts all listeners and timers when the element is removed from the page.
    #life;
    #graceTimer;
    #observer;
    #checking = null;
    // The pauses before the next automatic requests; null if none is pending.
    #quietPauses = null;
    // The number of automatic launches, and the timer of the next one.
    #relaunches = 0;
    #relaunchTimer;
    #retry = () => this.reload();

    /** Create an element from the data of `embeds.embed_context()`. */
    static create(data) {
      if (data.login_url) {
        throw new Error("The visitor is not signed in: send them to data.login_url.");
      }
      if (data.panels && !findTemplate()) {
        const template = document.createElement("template");
        template.setAttribute("data-examplary-panels", "");
        template.innerHTML = data.panels;
        const sheets = template.content.querySelectorAll("link");
        document.head.append(template, ...[...sheets].map((sheet) => sheet.cloneNode()));
      }
      const element = document.createElement("examplary-embed");
      element.className = `examplary-embed ${data.css_class}`.trim();
      element.classList.toggle("examplary-embed--modal", data.modal);
      const flags = {
        "data-confirm-close": data.confirm_close,
        "data-done": !data.completes,
        "data-eager": data.waits && data.load === "eager",
        "data-debug": data.debug,
      };
      const credentials = data.token ? "token" : "csrf_token";
      const names = ["flow", "key", credentials, "origins", "site_origin", "grace"];
      for (const name of names) {
        element.setAttribute(`data-${name.replace("_", "-")}`, data[name]);
      }
      for (const [name, isSet] of Object.entries(flags)) {
        element.toggleAttribute(name, isSet);
      }
      const frame = document.createElement("iframe");
      frame.className = "examplary-embed__frame";
      frame.slot = "frame";
      frame.name = data.frame_name;
      frame.title = data.title;
      frame.referrerPolicy = "strict-origin-when-cross-origin";
      for (const name of ["allow", "sandbox"]) {
        if (data[name]) {
          frame.setAttribute(name, data[name]);
        }
      }
      if (data.waits) {
        const opener = document.createElement("a");
        opener.href = data.url;
        opener.setAttribute("data-examplary-opener", "");
        element.append(opener);
      } else {
        frame.setAttribute("loading", data.load);
        frame.src = data.url;
      }
      element.append(frame);
      return element;
    }

    connectedCallback() {
      this.#life = new AbortController();
      const isParsed = this.querySelector("iframe") && findTemplate();
      if (isParsed || document.readyState !== "loading") {
        this.#start();
      } else {
        // The script ran in the head, before the rest of the page was parsed.
        this.#listen(document, "DOMContentLoaded", () => this.#start());
      }
    }

    disconnectedCallback() {
      this.#life.abort();
      this.#observer?.disconnect();
      clearTimeout(this.#graceTimer);
      clearTimeout(this.#relaunchTimer);
      this.#checking = null;
      this.#isLeaving = false;
      this.#closeDialog();
    }

    /** A move with `moveBefore` keeps the frame, so nothing changes here. */
    connectedMoveCallback() {}

    /** Restore the state that a newer copy of the page has removed. */
    attributeChangedCallback(name, before, after) {
      if (this.#state && after !== this.#state) {
        this.dataset.state = this.#state;
      }
    }

    /** Open the dialog if there is one, and launch unless already launched. */
    open() {
      if (!this.#isRunning()) {
        return;
      }
      if (this.#dialog && !this.#dialog.hasAttribute("open")) {
        reportErrors(() => this.#openDialog());
      }
      if (this.#state === "idle" || STATES[this.#state].final) {
        this.reload();
      }
    }

    /** Launch again in the same frame. */
    reload() {
      if (!this.#isRunning()) {
        return;
      }
      this.#retry = () => this.reload();
      this.#unlessOffline(() => {
        this.#isRestored = false;
        this.#relaunches = 0;
        this.#readAddress();
        this.#show("loading");
        this.#navigate(this.#launchAddress("launch"));
      });
    }

    /** End the session if there is one, like the Done button. */
    async close() {
      // A result that is being verified has precedence.
      await this.#checking;
      if (this.#isRunning() && STATES[this.#state].session) {
        await this.#ask("close", [0]);
      }
    }

    // Setting up

    /** Return whether the element is in a page and has started there. */
    #isRunning() {
      return this.isConnected && Boolean(this.#state);
    }

    #start() {
      const frame = this.querySelector("iframe");
      const template = findTemplate();
      if (!frame || !template) {
        console.error("<examplary-embed> needs its <iframe>, and {% examplary_script %} once.");
        return;
      }
      if (frame !== this.#frame) {
        this.#adopt(frame);
      }
      this.#readAddress();
      if (!this.shadowRoot) {
        this.#build(template);
      }
      this.#listen(this.#frame, "load", () => this.#onLoad());
      this.#listen(this.#slot, "slotchange", () => this.#onSlotChange());
      this.#listen(this.shadowRoot, "click", (event) => this.#onClick(event));
      this.#listen(window, "message", (event) => this.#onMessage(event));
      this.#listen(window, "offline", () => this.#onOffline());
      this.#listen(window, "online", () => this.#onOnline());
      this.#listen(window, "pageshow", (event) => event.persisted && this.#resume(this.#state));
      // Prerendered pages launch only when they are shown.
      this.#listen(document, "prerenderingchange", () => this.#resume(this.#state));
      this.#listen(window, "blur", () => this.#onBlur());
      this.#listen(window, "focus", () => this.#onFocus());
      if (this.#dialog) {
        this.#listen(this.#dialog, "cancel", (event) => this.#onEscape(event));
        this.#listen(this.#dialog, "keydown", (event) => this.#onEscape(event));
        this.#listen(this.#dialog, "close", () => this.#stay());
      }
      this.#begin();
    }

    #begin() {
      const state = this.getAttribute("data-state");
      if (STATES[state]?.final) {
        // Reinsert an element that was removed.
        this.#show(state);
      } else if (!this.#frame.hasAttribute("src")) {
        this.#show("idle");
        if ("eager" in this.dataset) {
          this.reload();
        }
      } else {
        this.#show("loading");
        if (isRestoring) {
          // The launch must wait, because the browser would replace it by the restored page.
          this.#isRestored = true;
          this.#listen(window, "load", () => this.#onPageLoad());
        } else if (!this.#isBlank() && this.#frame.contentDocument?.readyState !== "loading") {
          // The frame loaded before this script ran.
          this.#onLoad();
        }
      }
    }

    /**
     * Keep the URL and name of the frame when a library overwrites them with those of a newer
     * page: a new token would reload the frame and lose the work in it.
     */
    #adopt(frame) {
      this.#frame = frame;
      this.#src = frame.getAttribute("src") ?? frame.dataset.examplarySrc;
      const { setAttribute, removeAttribute } = Element.prototype;
      frame.setAttribute = (name, value) => {
        if (name === "src") {
          this.#src = value;
        } else if (name !== "name") {
          setAttribute.call(frame, name, value);
        }
      };
      frame.removeAttribute = (name) => {
        if (name !== "src" && name !== "name") {
          removeAttribute.call(frame, name);
        }
      };
      Object.defineProperty(frame, "src", {
        configurable: true,
        get: () => this.#src,
        set: (value) => {
          frame.setAttribute("src", value);
        },
      });
    }

    /** Read the URL and the key of the next launch from the current page. */
    #readAddress() {
      const opener = this.querySelector("a[data-examplary-opener]");
      this.#base = new URL(opener ? opener.href : this.#src, document.baseURI);
      this.#key = this.dataset.key;
      this.#token = this.dataset.token;
    }

    #build(template) {
      this.#template = template.content;
      const parts = document.importNode(template.content, true);
      const find = (name) => parts.querySelector(`[data-examplary-${name}]`);
      this.#slot = parts.querySelector("slot");
      this.#stage = find("stage");
      this.#bar = find("bar");
      this.#help = find("help");
      this.#done = find("done");
      this.#status = find("status");
      this.#dialog = find("dialog");
      for (const panel of parts.querySelectorAll("[data-examplary-state]")) {
        panel.remove();
      }
      this.#adapt(parts);
      if (!("done" in this.dataset)) {
        this.#done.remove();
        this.#done = null;
      }
      if (this.classList.contains("examplary-embed--modal")) {
        this.#dialog.setAttribute("aria-label", this.#frame.title);
        this.#dialog.append(find("body"));
      } else {
        find("opener").remove();
        this.#dialog.remove();
        this.#dialog = null;
      }
      this.attachShadow({ mode: "open" }).append(parts);
      if (this.#reportsElsewhere() && "debug" in this.dataset) {
        this.#explainOrigin();
      }
      reportErrors(() => this.#awaitStyle());
    }

    /** Return whether the embed reports to another origin, so this page receives no messages. */
    #reportsElsewhere() {
      const { siteOrigin } = this.dataset;
      return Boolean(siteOrigin) && siteOrigin !== window.location.origin;
    }

    #explainOrigin() {
      const hint = document.createElement("p");
      hint.className = "examplary-embed__hint";
      hint.textContent =
        `This page is at ${window.location.origin}, and its embeds report to ` +
        `${this.dataset.siteOrigin}: the browser withholds their messages. ` +
        "Correct EXAMPLARY_SITE_ORIGIN, or the headers of the proxy. (DEBUG is on.)";
      // In the dialog, if there is one, because it covers the page.
      this.#bar.after(hint);
    }

    /** Hide the parts until their stylesheet has loaded or failed to load. */
    #awaitStyle() {
      const sheet = this.shadowRoot.querySelector("link");
      if (!sheet || sheet.sheet) {
        return;
      }
      const parts = [...this.shadowRoot.children];
      const setVisibility = (value) => parts.forEach((part) => (part.style.visibility = value));
      setVisibility("hidden");
      sheet.addEventListener("load", () => setVisibility(""));
      sheet.addEventListener("error", () => setVisibility(""));
    }

    /** Insert the name and the URL of this embed, and remove parts for other flows. */
    #adapt(parts) {
      const { flow } = this.dataset;
      const each = (name, action) => {
        parts.querySelectorAll(`[data-examplary-${name}]`).forEach(action);
      };
      each("name", (part) => (part.textContent = this.#frame.title));
      if (this.#token) {
        // A one-time link cannot open another window.
        each("window", (part) => part.remove());
      }
      each("window", (part) => (part.href = this.#launchAddress("window")));
      each("only", (part) => part.dataset.examplaryOnly.split(" ").includes(flow) || part.remove());
      each(
        "except",
        (part) => part.dataset.examplaryExcept.split(" ").includes(flow) && part.remove(),
      );
    }

    #listen(target, type, listener) {
      target.addEventListener(type, listener, { signal: this.#life.signal });
    }

    // The frame

    #launchAddress(view) {
      const [token] = this.#base.pathname.split("/").slice(-2);
      return this.#address(view, token);
    }

    #address(view, name) {
      return new URL(`../../${view}/${name}/`, this.#base).href;
    }

    /** Unlike a new `src`, this adds no entry to the history. */
    #navigate(address) {
      this.#frame.contentWindow.location.replace(address);
    }

    #onLoad() {
      const state = STATES[this.#state];
      if (state.final) {
        // A moved element must not launch again. Wait until the frame is blank, because browsers
        // would otherwise add an entry to the history.
        this.#removeSource();
      }
      if (this.#state === "idle" && !this.#isBlank()) {
        // The browser has restored the previous page of the frame.
        this.#navigate("about:blank");
      }
      if (!state.listens || document.prerendering) {
        return;
      }
      if (this.#isRestored) {
        this.reload();
        return;
      }
      // The page in the frame, or null if it belongs to another site.
      const page = this.#frame.contentDocument;
      const problem = page?.querySelector("[data-examplary-problem]");
      if (problem) {
        this.#fail(problem);
      } else if (page && !this.#isBlank()) {
        // The frame has returned to this site.
        this.#ask("sync", PAUSES);
      } else if (!page) {
        this.#unlessOffline(() => this.#state === "loading" && this.#show("loaded"));
      }
    }

    /** Launch in a frame that the browser has left blank; in a lazy one when it comes into view. */
    #onPageLoad() {
      if (!this.#isRestored) {
        return;
      }
      const launch = () => this.#isRestored && this.reload();
      if (this.#frame.loading === "lazy") {
        this.#whenSeen(launch);
      } else {
        launch();
      }
    }

    /** A library may have replaced the frame by one with another URL. */
    #onSlotChange() {
      const frame = this.querySelector("iframe");
      if (frame && frame !== this.#frame) {
        this.disconnectedCallback();
        this.#state = undefined;
        this.removeAttribute("data-state");
        this.connectedCallback();
      }
    }

    #removeSource() {
      const source = this.#frame.getAttribute("src");
      if (source !== null) {
        this.#frame.dataset.examplarySrc = source;
        Element.prototype.removeAttribute.call(this.#frame, "src");
      }
    }

    #isBlank() {
      return this.#frame.contentDocument?.URL === "about:blank";
    }

    #onMessage(event) {
      if (
        event.source !== this.#frame.contentWindow ||
        !this.dataset.origins.split(" ").includes(event.origin) ||
        !STATES[this.#state].listens
      ) {
        return;
      }
      const isDocumented = event.data?.type === MESSAGE_TYPE;
      if (isDocumented && CLAIMS.includes(event.data.status)) {
        this.#ask("sync", PAUSES);
        return;
      }
      if (this.#state !== "ready") {
        this.#show("ready");
      }
      if (isDocumented) {
        this.#askQuietly();
      }
    }

    /**
     * Continue a page from the page cache. Another user may be signed in now, so the frame stays
     * covered until the server has found the session for this user.
     */
    async #resume(state) {
      if (state === "loading") {
        this.reload();
        return;
      }
      if (!STATES[state].work) {
        return;
      }
      const { signal } = this.#life;
      this.#show("loading");
      const answer = await this.#post("sync");
      if (signal.aborted || this.#state !== "loading") {
        return;
      }
      if (answer.status === "pending") {
        this.#show(state);
      } else {
        this.#take(answer);
        this.#retry = () => this.#resume(state);
      }
    }

    // The user's actions

    #onClick(event) {
      switch (event.target.closest("[data-examplary-do]")?.dataset.examplaryDo) {
        case "open":
          return this.open();
        case "reload":
          return this.reload();
        case "retry":
          return this.#retry();
        case "reload-page":
          return window.location.reload();
        case "close":
          return this.close();
        case "hide-help":
          return this.#offerHelp(false);
        case "dismiss":
          return this.#dismiss();
        case "stay":
          return this.#stay();
        case "leave":
          return this.#closeDialog();
      }
    }

    #onOffline() {
      if (this.#state === "loading") {
        this.#unlessOffline(() => {});
      }
    }

    #onOnline() {
      if (this.#state === "offline") {
        this.#retry();
      }
    }

    /** WebKit does not update `activeElement` when the user clicks into a frame. */
    #onBlur() {
      this.#isTyping = document.hasFocus() && this.#frame.matches(":hover");
    }

    #onFocus() {
      this.#isTyping = false;
      // The user returns from a frame that cannot report its end.
      if (this.#reportsElsewhere() && STATES[this.#state].work) {
        this.#askQuietly();
      }
    }

    /**
     * Handle the Escape key and other close requests. Browsers let a page refuse `cancel` only
     * once in a row, so the key is handled before it causes one.
     */
    #onEscape(event) {
      if (event.type === "keydown" && event.key !== "Escape") {
        return;
      }
      event.preventDefault();
      if (this.#isLeaving) {
        this.#stay();
      } else {
        this.#dismiss();
      }
    }

    #openDialog() {
      if (this.#dialog.showModal) {
        this.#dialog.showModal();
      } else {
        this.#dialog.setAttribute("open", "");
      }
    }

    #closeDialog() {
      if (this.#dialog?.close) {
        this.#dialog.close();
      } else if (this.#dialog) {
        this.#dialog.removeAttribute("open");
        this.#stay();
      }
    }

    /** Close the dialog, unless it may contain unsaved work: then ask the user. */
    #dismiss() {
      if ("confirmClose" in this.dataset && STATES[this.#state].work) {
        this.#isLeaving = true;
        this.#setPanel("leaving").querySelector("button").focus();
        this.#showBar();
      } else {
        this.#closeDialog();
      }
    }

    #stay() {
      if (this.#isLeaving) {
        this.#isLeaving = false;
        this.#setPanel(this.#state);
        this.#showBar();
        if (this.#dialog.hasAttribute("open")) {
          this.#focusFrame();
        }
      }
    }

    /** Firefox ignores this during key events, so wait until they are handled. */
    #focusFrame() {
      setTimeout(() => {
        this.#frame.focus();
        this.#frame.contentWindow?.focus();
      });
    }

    // The result

    /** Send one request at a time, however many messages arrive meanwhile. */
    #ask(view, pauses) {
      this.#checking ??= this.#askUntilFinal(view, pauses, this.#life.signal);
      return this.#checking;
    }

    /** An undocumented status may or may not be an end, so the user can continue. */
    async #askQuietly() {
      if (this.#quietPauses) {
        // The pending response may be older than this message.
        this.#quietPauses = QUIET_PAUSES.slice(1);
        return;
      }
      this.#quietPauses = [...QUIET_PAUSES];
      const { signal } = this.#life;
      while (this.#quietPauses.length) {
        await sleep(this.#quietPauses.shift(), signal);
        const answer = signal.aborted ? null : await this.#post("sync");
        if (signal.aborted) {
          break;
        }
        const isOver = answer.status ? answer.status !== "pending" : answer.reason === "ended";
        if (isOver && STATES[this.#state].listens) {
          this.#take(answer);
          break;
        }
      }
      this.#quietPauses = null;
    }

    async #askUntilFinal(view, pauses, signal) {
      this.#retry = () => this.#ask(view, pauses);
      this.#show("verifying");
      const pending = pauses.values();
      const passing = PATIENT_PAUSES.map(vary).values();
      let answer;
      let next = pending.next();
      while (!next.done) {
        await sleep(next.value, signal);
        answer = signal.aborted ? null : await this.#post(view);
        if (signal.aborted) {
          return;
        }
        if (answer.status === "pending") {
          next = pending.next();
        } else if (TEMPORARY.includes(answer.reason)) {
          next = passing.next();
        } else {
          break;
        }
      }
      this.#checking = null;
      this.#take(answer);
    }

    #postAddress(view) {
      return this.#token ? this.#address("report", view) : this.#address(view, this.#key);
    }

    /** Use form fields: sites can rename the header of the token, and logs contain no fields. */
    #postBody() {
      const proof = this.#token
        ? { token: this.#token }
        : { csrfmiddlewaretoken: this.dataset.csrfToken };
      return new URLSearchParams({ ...proof, language: this.closest("[lang]")?.lang ?? "" });
    }

    async #post(view) {
      try {
        const response = await fetch(this.#postAddress(view), {
          method: "POST",
          headers: { Accept: "application/json" },
          body: this.#postBody(),
          // Safari 15 lacks this, and uses its own timeout.
          signal: AbortSignal.timeout?.(POST_LIMIT),
        });
        const answer = parseObject(await response.text());
        if (response.ok ? answer.status : answer.reason) {
          return answer;
        }
        // Django, a middleware or a proxy refuses: for a CSRF token, or to make the user sign in.
        const isRefused = response.redirected || [401, 403, 404].includes(response.status);
        return { reason: isRefused ? "stale" : "unavailable" };
      } catch {
        return { reason: navigator.onLine ? "unavailable" : "offline" };
      }
    }

    /** Show the outcome that the server returned. */
    #take(answer) {
      if (STATES[answer.status]?.final) {
        this.#finish(answer);
      } else if (["expired", "revoked"].includes(answer.status) || answer.reason === "ended") {
        this.#show("ended");
        this.#dispatch("error", { reason: "ended" });
      } else if (answer.status) {
        // Examplary has not confirmed the message, and the frame will not repeat it.
        this.#take({ reason: "pending" });
      } else if (answer.reason === "offline") {
        this.#goOffline();
      } else if (STALE.includes(answer.reason)) {
        // The frame may belong to another user.
        this.#navigate("about:blank");
        this.#show("stale", answer);
        this.#dispatch("error", answer);
      } else {
        const { detail, reference } = answer;
        this.#show("unverified", { detail, reference });
        this.#dispatch("error", answer);
      }
    }

    #finish(answer) {
      this.#navigate("about:blank");
      this.#show(answer.status);
      if (this.#dispatch(answer.status, answer) && answer.redirect) {
        continueTo(answer.redirect);
      } else if (answer.status === "closed") {
        this.#closeDialog();
      }
    }

    /** Show the problem of a launch, from the page of this site in the frame. */
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
      if (TEMPORARY.includes(facts.reason) && this.#relaunches < PATIENT_PAUSES.length) {
        this.#launchLater();
        return;
      }
      this.#show(STALE.includes(facts.reason) ? "stale" : "failed", facts);
      this.#dispatch("error", facts);
    }

    #launchLater() {
      if (this.#state !== "loading") {
        this.#show("loading");
      }
      clearTimeout(this.#relaunchTimer);
      const launch = () => this.#navigate(this.#launchAddress("launch"));
      this.#relaunchTimer = setTimeout(
        () => this.#unlessOffline(launch),
        vary(PATIENT_PAUSES[this.#relaunches++]),
      );
    }

    /** A browser without a network reports that it is offline, and still reaches localhost. */
    async #unlessOffline(next) {
      const state = this.#state;
      const isOffline = !navigator.onLine && !(await this.#isReachable());
      if (this.#state !== state || !this.isConnected) {
        return;
      }
      if (isOffline) {
        this.#goOffline();
      } else {
        next();
      }
    }

    /** Any response of the site will do. */
    async #isReachable() {
      const options = { method: "HEAD", mode: "no-cors", cache: "no-store" };
      try {
        await fetch(this.#postAddress("sync"), options);
        return true;
      } catch {
        return false;
      }
    }

    #goOffline() {
      this.#show("offline");
      this.#dispatch("error", { reason: "offline" });
    }

    #dispatch(name, detail) {
      return this.dispatchEvent(
        new CustomEvent(`examplary:${name}`, { bubbles: true, cancelable: true, detail }),
      );
    }

    // The view

    #show(state, facts = {}) {
      clearTimeout(this.#relaunchTimer);
      this.#state = state;
      this.dataset.state = state;
      reportErrors(() => this.#present(state, facts));
    }

    #present(state, facts) {
      const focused = this.#focused();
      this.#isLeaving &&= STATES[state].listens;
      const panel = this.#isLeaving ? this.#panel : this.#setPanel(state, facts);
      this.#status.textContent = panel ? textOf(panel) : "";
      this.#offerHelp(false);
      this.#awaitSign();
      if (focused && isGone(focused)) {
        // The focused element is hidden now, so its replacement gets the focus.
        (panel ?? this.#stage).focus();
      }
    }

    /** Return the focused element in this embed, or null. */
    #focused() {
      if (this.#isTyping || document.activeElement === this.#frame) {
        return this.#frame;
      }
      return this.shadowRoot.activeElement;
    }

    /** Cover the frame with the panel of a state, or uncover it if the state has none. */
    #setPanel(name, facts = {}) {
      this.#panel?.remove();
      const source = this.#template.querySelector(`[data-examplary-state="${name}"]`);
      this.#panel = source && document.importNode(source, true);
      if (this.#panel) {
        this.#adapt(this.#panel);
        this.#fill(this.#panel, facts);
        this.#panel.tabIndex = -1;
        this.#stage.append(this.#panel);
      }
      // A frame beneath a panel is hidden, and can't get the focus.
      this.#slot.style.visibility = this.#panel ? "hidden" : "";
      return this.#panel;
    }

    /** Put texts into a panel, and hide parts without a text. */
    #fill(panel, facts) {
      for (const name of ["title", "text", "detail", "reference"]) {
        const place = panel.querySelector(`[data-examplary-${name}]`);
        if (place && facts[name]) {
          place.textContent = facts[name];
        }
        if (place) {
          place.closest("p").hidden = !place.textContent;
        }
      }
    }

    /** Show the line below the frame if it has content that can be used. */
    #showBar() {
      const isUsed = STATES[this.#state].bar && !this.#isLeaving;
      this.#bar.hidden = !isUsed || (this.#help.hidden && !this.#done);
      if (this.#done) {
        // Keep its space, so that the size of the frame does not change.
        this.#done.style.visibility = this.#state === "loading" ? "hidden" : "";
      }
    }

    /** Start the grace time when the frame comes into view. */
    #awaitSign() {
      clearTimeout(this.#graceTimer);
      this.#observer?.disconnect();
      if (STATES[this.#state].silent && !this.#isRestored) {
        this.#whenSeen(() => this.#beginGrace());
      }
    }

    #whenSeen(action) {
      if (!window.IntersectionObserver) {
        action();
        return;
      }
      this.#observer?.disconnect();
      this.#observer = new IntersectionObserver((entries, observer) => {
        if (entries[entries.length - 1].isIntersecting) {
          observer.disconnect();
          action();
        }
      });
      this.#observer.observe(this.#frame);
    }

    #beginGrace() {
      this.#graceTimer = setTimeout(() => {
        if (this.#focused() === this.#frame) {
          // The user is working in the frame, so it works.
          this.#beginGrace();
        } else {
          this.#offerHelp(true);
        }
      }, Number(this.dataset.grace) * 1000);
    }

    /** Offer help beside a frame that may not work. */
    #offerHelp(isNeeded) {
      const isLate = isNeeded && this.#help.hidden;
      this.#help.hidden = !isNeeded;
      this.#showBar();
      if (isLate) {
        this.#status.textContent = textOf(this.#help);
        this.#retry = () => this.#startOver();
      }
    }

    /** Launch again, unless the session has ended, which the launch would resume. */
    async #startOver() {
      const { signal } = this.#life;
      const isLoaded = this.#state === "loaded";
      this.#show("loading");
      const answer = isLoaded ? await this.#post("sync") : {};
      if (signal.aborted) {
        return;
      }
      if (STATES[answer.status]?.final) {
        this.#finish(answer);
      } else {
        this.reload();
      }
    }
  }

  /** Update the view. Errors are reported, but do not stop the requests for a result. */
  function reportErrors(action) {
    try {
      action();
    } catch (error) {
      setTimeout(() => {
        throw error;
      });
    }
  }

  function findTemplate() {
    return document.querySelector("template[data-examplary-panels]");
  }

  /** Redirect to a page of this site. Other URLs, which the server never sends, are ignored. */
  function continueTo(address) {
    const url = new URL(address, window.location.href);
    if (url.origin === window.location.origin) {
      window.location.assign(url.href);
    } else {
      console.error("<examplary-embed> does not continue to another site.");
    }
  }

  /** Return the object of a JSON text; without properties if it is no object. */
  function parseObject(text) {
    try {
      return Object(JSON.parse(text));
    } catch {
      return {};
    }
  }

  function sleep(milliseconds, signal) {
    return new Promise((resolve) => {
      const end = () => {
        clearTimeout(timer);
        signal.removeEventListener("abort", end);
        resolve();
      };
      const timer = setTimeout(end, milliseconds);
      signal.addEventListener("abort", end);
    });
  }

  function vary(pause) {
    return pause * (0.75 + Math.random() / 2);
  }

  function isGone(element) {
    return (
      !element.isConnected ||
      !element.getClientRects().length ||
      getComputedStyle(element).visibility === "hidden"
    );
  }

  function textOf(element) {
    const parts = [...element.querySelectorAll("p:not([hidden])")];
    return parts.map((part) => part.textContent.trim()).join(" ");
  }

  if (!customElements.get("examplary-embed")) {
    customElements.define("examplary-embed", ExamplaryEmbed);
  }
  // Elements added later did not exist when the browser went back.
  const settle = () => (isRestoring = false);
  if (document.readyState === "complete") {
    settle();
  } else {
    window.addEventListener("load", () => setTimeout(settle));
  }
})();
