/** What is done to the tools an upstream shows: the controls set for all servers and overridden by one. */

import { bool, choice, positive, section } from './fields.ts'

const POLICY_MODES = ['preserve', 'truncate', 'strip'] as const
const SANITIZATION_MODES = ['off', 'sanitize', 'block'] as const
const PINNING_MODES = ['off', 'warn', 'block'] as const
const BLOCK_STRATEGIES = ['error', 'baseline_subset'] as const
const SESSION_ACTIONS = ['keep', 'invalidate'] as const

/** `core.tool_description_policy`. */
export const toolDescriptionPolicySchema = section({
  mode: choice(POLICY_MODES)
    .default('preserve')
    .describe(
      'What happens to tool and schema descriptions: `preserve` leaves them, `truncate` cuts them to the caps, `strip` removes them.',
    ),
  max_tool_description_chars: positive()
    .nullable()
    .default(280)
    .describe('Longest tool description under `truncate`, in characters; null for no cap.'),
  max_schema_description_chars: positive()
    .nullable()
    .default(280)
    .describe(
      'Longest description inside a schema under `truncate`, in characters; null for no cap.',
    ),
})

/** `core.tool_metadata_sanitization`. */
export const toolMetadataSanitizationSchema = section({
  mode: choice(SANITIZATION_MODES)
    .default('sanitize')
    .describe(
      'Cleaning of titles and descriptions that upstreams send: `sanitize` forwards the cleaned tool, `block` hides a tool that would change, `off` forwards it as it is.',
    ),
  normalize_unicode: bool().default(true).describe('Bring text into Unicode form NFKC.'),
  remove_invisible_characters: bool()
    .default(true)
    .describe(
      'Remove what nobody sees: format and control characters (bidi, zero-width, tags), variation selectors, fillers.',
    ),
  max_tool_title_chars: positive()
    .nullable()
    .default(256)
    .describe('Longest tool title, in characters; null for no cap.'),
  max_tool_description_chars: positive()
    .nullable()
    .default(2000)
    .describe('Longest tool description, in characters; null for no cap.'),
  max_schema_text_chars: positive()
    .nullable()
    .default(1000)
    .describe('Longest title or description inside a schema, in characters; null for no cap.'),
})

/** `core.tool_definition_pinning`. */
export const toolDefinitionPinningSchema = section({
  mode: choice(PINNING_MODES)
    .default('warn')
    .describe(
      'What happens when a tool changes after the session first listed it: `warn` marks it in lists and in the log, `block` refuses it, `off` does not look. With `block` a client that calls without a list has its tools listed for it once.',
    ),
  block_strategy: choice(BLOCK_STRATEGIES)
    .default('error')
    .describe(
      'Under `block`: `error` fails the listing and the calls, `baseline_subset` shows only the unchanged tools.',
    ),
  block_error_session_action: choice(SESSION_ACTIONS)
    .default('invalidate')
    .describe('Under `block` with `error`: whether the session is ended (`invalidate`) or kept.'),
})

/** `core.upstream_ping`. */
export const upstreamPingSchema = section({
  enabled: bool()
    .default(true)
    .describe(
      'Ping each upstream in the background, and refuse new requests to one that fails (circuit breaker, by pings and requests).',
    ),
  interval_seconds: positive()
    .default(15)
    .describe(
      'Seconds between two pings of an upstream, a tenth more or less; one is left out when requests have been answered meanwhile.',
    ),
  timeout_seconds: positive()
    .default(5)
    .describe('Seconds after which a ping has failed, connecting included.'),
  failure_threshold: positive()
    .default(3)
    .describe(
      'Failures in a row, of pings and requests, after which new requests are answered 503; where a request completes the row, a ping has to fail, too. Failures are: no connection, no answer, no HTTP, and status 500 and above.',
    ),
  open_cooldown_seconds: positive()
    .default(30)
    .describe('Seconds for which requests are refused before a few are tried again.'),
  half_open_probe_allowance: positive()
    .default(2)
    .describe(
      'Requests that are tried at a time then. So many successes, of pings too, and all pass again; one failure, and all are refused again.',
    ),
})

const inherited = {
  policyMode: choice(POLICY_MODES).nullable().default(null),
  sanitizationMode: choice(SANITIZATION_MODES).nullable().default(null),
  pinningMode: choice(PINNING_MODES).nullable().default(null),
  count: positive().nullable().default(null),
  flag: bool().nullable().default(null),
}

/** `servers[].tool_description_policy`: null inherits from `core`. */
export const serverToolDescriptionPolicySchema = section({
  mode: inherited.policyMode.describe('As in `core.tool_description_policy`; null inherits.'),
  max_tool_description_chars: inherited.count.describe(
    'As in `core.tool_description_policy`; null inherits (a server cannot lift a cap).',
  ),
  max_schema_description_chars: inherited.count.describe(
    'As in `core.tool_description_policy`; null inherits (a server cannot lift a cap).',
  ),
})

/** `servers[].tool_metadata_sanitization`: null inherits from `core`. */
export const serverToolMetadataSanitizationSchema = section({
  mode: inherited.sanitizationMode.describe(
    'As in `core.tool_metadata_sanitization`; null inherits.',
  ),
  normalize_unicode: inherited.flag.describe(
    'As in `core.tool_metadata_sanitization`; null inherits.',
  ),
  remove_invisible_characters: inherited.flag.describe(
    'As in `core.tool_metadata_sanitization`; null inherits.',
  ),
  max_tool_title_chars: inherited.count.describe(
    'As in `core.tool_metadata_sanitization`; null inherits (a server cannot lift a cap).',
  ),
  max_tool_description_chars: inherited.count.describe(
    'As in `core.tool_metadata_sanitization`; null inherits (a server cannot lift a cap).',
  ),
  max_schema_text_chars: inherited.count.describe(
    'As in `core.tool_metadata_sanitization`; null inherits (a server cannot lift a cap).',
  ),
})

/** `servers[].tool_definition_pinning`: null inherits from `core`. */
export const serverToolDefinitionPinningSchema = section({
  mode: inherited.pinningMode.describe('As in `core.tool_definition_pinning`; null inherits.'),
  block_strategy: choice(BLOCK_STRATEGIES)
    .nullable()
    .default(null)
    .describe('As in `core.tool_definition_pinning`; null inherits.'),
  block_error_session_action: choice(SESSION_ACTIONS)
    .nullable()
    .default(null)
    .describe('As in `core.tool_definition_pinning`; null inherits.'),
})

/** `servers[].upstream_ping`: null inherits from `core`. */
export const serverUpstreamPingSchema = section({
  enabled: inherited.flag.describe('As in `core.upstream_ping`; null inherits.'),
  interval_seconds: inherited.count.describe('As in `core.upstream_ping`; null inherits.'),
  timeout_seconds: inherited.count.describe('As in `core.upstream_ping`; null inherits.'),
  failure_threshold: inherited.count.describe('As in `core.upstream_ping`; null inherits.'),
  open_cooldown_seconds: inherited.count.describe('As in `core.upstream_ping`; null inherits.'),
  half_open_probe_allowance: inherited.count.describe('As in `core.upstream_ping`; null inherits.'),
})
