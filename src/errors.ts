/**
 * Every problem that a caller can meet: a stable code, its HTTP status and its title.
 * `detail` is written where the problem is found and says which field, which limit and what to do.
 */
export const catalogue = {
  malformed_json: [400, "Malformed JSON"],
  malformed_request: [400, "Malformed request"],
  unauthorized: [401, "Unauthorized"],
  forbidden: [403, "Forbidden"],
  not_found: [404, "No such resource"],
  task_not_found: [404, "Task not found"],
  prompt_not_found: [404, "Prompt not found"],
  job_not_found: [404, "Job not found"],
  dataset_not_found: [404, "Data set not found"],
  method_not_allowed: [405, "Method not allowed"],
  request_timeout: [408, "Request timed out"],
  task_exists: [409, "Task exists"],
  no_active_prompt: [409, "No active prompt"],
  prompt_in_use: [409, "Prompt in use"],
  backbone_mismatch: [409, "Prompt belongs to another backbone"],
  not_expressible: [409, "Not expressible in this format"],
  idempotency_conflict: [409, "Idempotency key reused with another body"],
  revision_conflict: [412, "Revision conflict"],
  body_too_large: [413, "Body too large"],
  unsupported_media_type: [415, "Unsupported media type"],
  validation: [422, "Invalid request"],
  fields_required: [422, "Fields required"],
  unknown_field: [422, "Unknown field"],
  empty_input: [422, "Empty input"],
  input_too_long: [422, "Input too long"],
  duplicate_verbalizer: [422, "Duplicate verbalizer"],
  hard_prompt_not_trainable: [422, "A hard prompt is never trained"],
  bad_template: [422, "Bad template"],
  bad_tensor: [422, "Bad tensor"],
  bad_dataset: [422, "Bad data set"],
  bad_backbone: [422, "Bad backbone"],
  queue_full: [429, "Queue full"],
  headers_too_large: [431, "Headers too large"],
  internal: [500, "Internal error"],
  registry_unavailable: [503, "Registry unavailable"],
  not_ready: [503, "Not ready"],
  draining: [503, "Draining"],
  backbone_unavailable: [503, "Backbone unavailable"],
  deadline: [504, "Deadline passed"],
} as const satisfies Record<string, readonly [status: number, title: string]>;

export type ProblemCode = keyof typeof catalogue;

/** RFC 9457 problem details. */
export interface Problem {
  type: string;
  title: string;
  status: number;
  code: ProblemCode;
  detail: string;
  instance?: string;
  [extension: string]: unknown;
}

/** The one error that reaches a caller; `fields` become members of the problem document. */
export class ForewordError extends Error {
  override readonly name = "ForewordError";
  readonly code: ProblemCode;
  readonly fields: Readonly<Record<string, unknown>>;

  constructor(
    code: ProblemCode,
    detail: string,
    fields: Readonly<Record<string, unknown>> = {},
    options?: ErrorOptions,
  ) {
    super(detail, options);
    this.code = code;
    this.fields = fields;
  }

  get status(): number {
    return catalogue[this.code][0];
  }

  /** The problem document; it survives `JSON` and `postMessage`, which an Error does not. */
  toProblem(instance?: string): Problem {
    const [status, title] = catalogue[this.code];
    const type = `urn:foreword:problem:${this.code}`;
    return {
      type,
      title,
      status,
      code: this.code,
      detail: this.message,
      ...(instance && { instance }),
      ...this.fields,
    };
  }

  static fromProblem({ code, detail, type, title, status, instance, ...fields }: Problem): ForewordError {
    return new ForewordError(code, detail, fields);
  }

  /** Anything thrown, as a ForewordError; what we did not foresee becomes `internal` and keeps its cause. */
  static from(error: unknown): ForewordError {
    if (error instanceof ForewordError) return error;
    return new ForewordError(
      "internal",
      "Something went wrong in the server; its log has the cause.",
      {},
      { cause: error },
    );
  }
}

/** `validation` that names the field at fault; `what` is a sentence. */
export const invalid = (field: string, what: string, more: object = {}): ForewordError =>
  new ForewordError("validation", `${field}: ${what}`, { field, ...more });

/** What went wrong, in words: "fetch failed" says nothing without its cause. */
export function reasonOf(error: unknown): string {
  const { message, cause } = error as Error;
  // If several addresses were tried, the cause has a code but no message.
  return cause instanceof Error
    ? `${message} (${cause.message || (cause as NodeJS.ErrnoException).code})`
    : message;
}

export const shuttingDown = (): ForewordError =>
  new ForewordError("draining", "The server is shutting down. Ask another one, or try again later.");

/** For `catch`: errors of these codes become `value`, all others are thrown on. */
export const orElse =
  <Value>(value: Value, ...codes: ProblemCode[]) =>
  (error: unknown): Value => {
    if (error instanceof ForewordError && codes.includes(error.code)) return value;
    throw error;
  };
