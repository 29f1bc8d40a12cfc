/** What browsers are told of answers that are not meant to be seen as pages: they must not render, frame, guess at, keep or tell others of them. */

/** For JSON, errors included. URLs here can be credentials, so none may be told to other sites or kept with its answer. */
export const DATA_HEADERS = [
  'x-content-type-options',
  'nosniff',
  'content-security-policy',
  "default-src 'none'; frame-ancestors 'none'",
  'referrer-policy',
  'no-referrer',
  'cache-control',
  'no-store',
] as const
