/** Rules that concern more than one field of `telemetry`. */

import type { RuleViolation } from './rule-violation.ts'
import { hasReadableUser, UNREADABLE_USER } from './schema/fields.ts'
import type { ConfigDocument } from './schema/document.ts'

/** Lists what is wrong with the settings of telemetry taken together with the rest. */
export function checkTelemetry(document: ConfigDocument): RuleViolation[] {
  return [...checkOtlp(document), ...checkPrometheus(document)]
}

function* checkOtlp({ telemetry }: ConfigDocument): Generator<RuleViolation> {
  const { enabled, endpoint, logs_endpoint: logs, traces } = telemetry
  // Of logs, files that are in use elsewhere have it so; traces are new.
  if (traces.enabled && !enabled) {
    yield {
      path: ['telemetry', 'traces', 'enabled'],
      message: 'needs telemetry.enabled: true; nothing is exported without it',
    }
  }
  const endpoints = [
    { path: ['endpoint'], value: endpoint },
    { path: ['logs_endpoint'], value: logs },
    { path: ['traces', 'endpoint'], value: traces.endpoint },
  ]
  for (const { path, value } of endpoints) {
    if (!enabled || value === null) continue
    if (isEndpoint(value, telemetry.transport)) {
      if (!hasReadableUser(value)) yield { path: ['telemetry', ...path], message: UNREADABLE_USER }
      continue
    }
    yield {
      path: ['telemetry', ...path],
      message:
        telemetry.transport === 'http'
          ? 'must be an http:// or https:// URL such as http://collector:4318/v1/traces'
          : 'must be an http:// or https:// URL or host:port, such as collector:4317',
    }
  }
}

function isEndpoint(text: string, transport: 'grpc' | 'http'): boolean {
  if (/^https?:\/\//i.test(text)) return URL.canParse(text)
  return transport === 'grpc' && /^(?:\[[0-9a-fA-F:.]+\]|[^\s/:@]+)(?::\d{1,5})?$/.test(text)
}

function* checkPrometheus({ telemetry, core }: ConfigDocument): Generator<RuleViolation> {
  const { prometheus } = telemetry
  if (prometheus.port === null && prometheus.host !== null) {
    yield {
      path: ['telemetry', 'prometheus', 'host'],
      message: 'is for telemetry.prometheus.port, which is not set',
    }
  }
  if (prometheus.port !== null && prometheus.port !== 0 && prometheus.port === core.port) {
    yield {
      path: ['telemetry', 'prometheus', 'port'],
      message: 'is core.port; leave it out to show metrics there',
    }
  }
}
