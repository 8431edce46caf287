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
