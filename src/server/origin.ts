import type { FastifyRequest } from "fastify";
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
