import { isIP } from "node:net";
import type { FastifyRequest } from "fastify";
import type { Config } from "../config.ts";
import { ForewordError } from "../errors.ts";

/** What changes nothing may be asked from anywhere: a browser keeps the reply from the page. */
const reading = ["GET", "HEAD", "OPTIONS"];

/**
 * Refuses changes that a browser asks for on behalf of another site's page. A server without a key answers whoever
 * reaches it, and each page that its user visits does. Browsers tell by `Sec-Fetch-Site` (W3C Fetch Metadata), older
 * ones by `Origin`; other programs send neither. Throws `forbidden`.
 */
export function refuseOtherSites({ method, headers }: FastifyRequest): void {
  if (reading.includes(method)) return;
  const { "sec-fetch-site": site, origin, host } = headers;
  const other = site === undefined ? origin !== undefined && hostOf(origin) !== host : site === "cross-site";
  if (other)
    throw new ForewordError(
      "forbidden",
      "A page of another site asks for this change. Without a key (FOREWORD_ADMIN_KEY) only programs, and this server's own pages, may change anything.",
    );
}

/** Null for an opaque origin, which a page without a site of its own has. */
const hostOf = (origin: string): string | null => /^https?:\/\/(.+)$/.exec(origin)?.[1] ?? null;

/** `127.0.0.1:8080`, `[::1]:8080`, `name:8080` without the port. */
const nameOf = (host: string): string =>
  host
    .replace(/:\d+$/, "")
    .replace(/^\[(.*)\]$/, "$1")
    .toLowerCase();

const isLocal = (name: string): boolean =>
  name === "localhost" || name.endsWith(".localhost") || name === "::1" || /^127\./.test(name);

/**
 * If the server listens to this machine alone, refuses requests for any other host name. A site can let its name point
 * here (DNS rebinding): to a browser its page then has the same origin, and could read and change everything. Throws
 * `forbidden`.
 */
export function refuseOtherNames(
  { headers: { host = "" } }: FastifyRequest,
  config: Pick<Config, "host">,
): void {
  const name = nameOf(host);
  if (!isLocal(config.host) || name === config.host || isLocal(name) || isIP(name) !== 0) return;
  throw new ForewordError(
    "forbidden",
    `The server listens to this machine alone, and was asked for as ${JSON.stringify(name)}. Ask for localhost or 127.0.0.1, or start it with a key (FOREWORD_ADMIN_KEY).`,
  );
}
