{{- define "adapter.name" -}}
{{- default .Chart.Name .Values.nameOverride | trunc 63 | trimSuffix "-" -}}
{{- end -}}

{{- define "adapter.fullname" -}}
{{- if .Values.fullnameOverride -}}
{{- .Values.fullnameOverride | trunc 52 | trimSuffix "-" -}}
{{- else if contains .Chart.Name .Release.Name -}}
{{- .Release.Name | trunc 52 | trimSuffix "-" -}}
{{- else -}}
{{- printf "%s-%s" .Release.Name (include "adapter.name" .) | trunc 52 | trimSuffix "-" -}}
{{- end -}}
{{- end -}}

{{- define "adapter.selectorLabels" -}}
app.kubernetes.io/name: {{ include "adapter.name" . }}
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end -}}

{{- define "adapter.labels" -}}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version | replace "+" "_" | trunc 63 | trimSuffix "-" }}
{{ include "adapter.selectorLabels" . }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
{{- end -}}

{{- define "adapter.serviceAccountName" -}}
{{- if .Values.serviceAccount.create -}}
{{- default (include "adapter.fullname" .) .Values.serviceAccount.name -}}
{{- else -}}
{{- default "default" .Values.serviceAccount.name -}}
{{- end -}}
{{- end -}}

{{- define "adapter.secretName" -}}
{{- default (include "adapter.fullname" .) .Values.secrets.existingSecret -}}
{{- end -}}

{{- define "adapter.claimName" -}}
{{- default (include "adapter.fullname" .) .Values.persistence.existingClaim -}}
{{- end -}}

{{/* The port that metrics have to themselves; nothing where there is none. */}}
{{- define "adapter.metricsPort" -}}
{{- $prometheus := dig "prometheus" dict .Values.config.telemetry -}}
{{- if and $prometheus.enabled $prometheus.port -}}{{ $prometheus.port }}{{- end -}}
{{- end -}}

{{/* How probes ask: by TLS where the listener speaks it. */}}
{{- define "adapter.probeScheme" -}}
{{- if dig "tls" "cert_file" "" .Values.config.core -}}HTTPS{{- else -}}HTTP{{- end -}}
{{- end -}}

{{/* What a stop may take: no from /readyz, requests in hand, the last export of telemetry, and five seconds for what is written down. */}}
{{- define "adapter.gracePeriod" -}}
{{- add .Values.config.core.pre_drain_seconds .Values.config.core.shutdown_timeout_seconds .Values.config.telemetry.shutdown_drain_timeout_seconds 5 -}}
{{- end -}}
