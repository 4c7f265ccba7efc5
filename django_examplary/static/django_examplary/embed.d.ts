/** Types of `embed.js`, which defines `<examplary-embed>` and exports nothing. */

/** The value of `django_examplary.embeds.embed_context()`, with `render_panels()` as `panels`. */
export interface EmbedData {
  flow: string;
  key: string;
  csrf_token: string;
  /** Replaces the session cookie and the CSRF token for one-time links. */
  token: string;
  origins: string;
  /** The origin that the embed reports to, or empty if the session was opened before. */
  site_origin: string;
  debug: boolean;
  title: string;
  modal: boolean;
  load: "lazy" | "eager" | "click";
  waits: boolean;
  grace: string;
  confirm_close: boolean;
  completes: boolean;
  url: string;
  finish_url: string;
  frame_name: string;
  allow: string;
  sandbox: string;
  css_class: string;
  /**
   * Needed once on a page without `{% examplary_script %}`. With `require-trusted-types-for` in the
   * page's Content-Security-Policy it must be `TrustedHTML`.
   */
  panels?: string | object;
}

/** The value for visitors who aren't signed in; `create()` throws for it. */
export interface SignInData {
  login_url: string;
}

export type EmbedState =
  | "idle"
  | "loading"
  | "loaded"
  | "ready"
  | "verifying"
  | "completed"
  | "cancelled"
  | "closed"
  | "ended"
  | "failed"
  | "unverified"
  | "stale"
  | "offline";

/** The outcome that the server has verified. `redirect` is a path of the site, or empty. */
export interface EmbedOutcome {
  status: "completed" | "cancelled" | "closed";
  outputs: Record<string, unknown>;
  redirect: string;
}

export interface EmbedProblem {
  reason:
    | "stale"
    | "signed-out"
    | "other-account"
    | "misconfigured"
    | "refused"
    | "no-access"
    | "preparing"
    | "busy"
    | "unavailable"
    | "ended"
    | "offline"
    | "pending";
  title?: string;
  text?: string;
  detail?: string;
  reference?: string;
}

export interface ExamplaryEmbed extends HTMLElement {
  /** Open the dialog if there is one, and launch unless already launched. */
  open(): void;
  /** Launch again in the same frame. */
  reload(): void;
  /** End the session if there is one, like the Done button. */
  close(): Promise<void>;
}

/** `customElements.get("examplary-embed") as ExamplaryEmbedConstructor` */
export interface ExamplaryEmbedConstructor {
  new (): ExamplaryEmbed;
  /** Create an element to be added to the page. Throws for `SignInData`. */
  create(data: EmbedData | SignInData): ExamplaryEmbed;
}

declare global {
  interface HTMLElementTagNameMap {
    "examplary-embed": ExamplaryEmbed;
  }

  interface HTMLElementEventMap {
    "examplary:completed": CustomEvent<EmbedOutcome>;
    "examplary:cancelled": CustomEvent<EmbedOutcome>;
    "examplary:closed": CustomEvent<EmbedOutcome>;
    "examplary:error": CustomEvent<EmbedProblem>;
  }

  interface DocumentEventMap {
    "examplary:completed": CustomEvent<EmbedOutcome>;
    "examplary:cancelled": CustomEvent<EmbedOutcome>;
    "examplary:closed": CustomEvent<EmbedOutcome>;
    "examplary:error": CustomEvent<EmbedProblem>;
  }
}
