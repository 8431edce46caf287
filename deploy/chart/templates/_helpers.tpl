{{- define "ferrule.labels" -}}
app.kubernetes.io/name: ferrule
app.kubernetes.io/instance: {{ .Release.Name }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
{{- end -}}
{{- define "ferrule.image" -}}
{{ .Values.image.repository }}:{{ .Values.image.tag | default .Chart.AppVersion }}
{{- end -}}
{{- define "ferrule.everywhere" -}}
# The network comes first: on nodes that are not ready, tainted or full.
- operator: Exists
{{- end -}}
{{- define "ferrule.scraped" -}}
{{- $root := index . 0 -}}
{{- if $root.Values.metrics.enabled -}}
prometheus.io/scrape: "true"
prometheus.io/port: {{ index . 1 | quote }}
{{- end -}}
{{- end -}}
{{- define "ferrule.check" -}}
{{- /* What the schema cannot say of values that have to fit each other. */ -}}
{{- $ports := dict "controller.port" .Values.controller.port "controller.apiPort" .Values.controller.apiPort -}}
{{- if .Values.metrics.enabled -}}
{{- $ports = merge $ports (dict "metrics.controllerPort" .Values.metrics.controllerPort "metrics.agentPort" .Values.metrics.agentPort) -}}
{{- else if .Values.metrics.podMonitors -}}
{{- fail "metrics.podMonitors: nothing serves metrics without metrics.enabled=true" -}}
{{- end -}}
{{- $taken := dict -}}
{{- range $name, $port := $ports -}}
{{- $port = int $port | toString -}}
{{- with get $taken $port -}}
{{- fail (printf "%s and %s are both %s: they listen on one network, the node's; give each its own" . $name $port) -}}
{{- end -}}
{{- $taken = set $taken $port $name -}}
{{- end -}}
{{- end -}}
{{- define "ferrule.cleanup" -}}
name: ferrule-cleanup
namespace: {{ .root.Release.Namespace }}
labels:
  {{- include "ferrule.labels" .root | nindent 2 }}
  app.kubernetes.io/component: cleanup
annotations:
  helm.sh/hook: post-delete
  helm.sh/hook-weight: {{ .weight | quote }}
  helm.sh/hook-delete-policy: before-hook-creation,hook-succeeded
{{- end -}}
