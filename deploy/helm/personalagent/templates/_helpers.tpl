{{- define "personalagent.fullname" -}}
{{- if contains .Chart.Name .Release.Name -}}
{{- .Release.Name | trunc 63 | trimSuffix "-" -}}
{{- else -}}
{{- printf "%s-%s" .Release.Name .Chart.Name | trunc 63 | trimSuffix "-" -}}
{{- end -}}
{{- end -}}

{{- define "personalagent.selectorLabels" -}}
app.kubernetes.io/name: {{ .Chart.Name }}
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end -}}

{{- define "personalagent.labels" -}}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version }}
{{ include "personalagent.selectorLabels" . }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
{{- end -}}

{{- define "personalagent.serviceAccountName" -}}
{{- if .Values.serviceAccount.create -}}
{{- default (include "personalagent.fullname" .) .Values.serviceAccount.name -}}
{{- else -}}
{{- default "default" .Values.serviceAccount.name -}}
{{- end -}}
{{- end -}}

{{/* What each container of a pod is given: the image, the settings and what it may not do. */}}
{{- define "personalagent.container" -}}
image: {{ printf "%s:%s" .Values.image.repository (default .Chart.AppVersion .Values.image.tag) | quote }}
imagePullPolicy: {{ .Values.image.pullPolicy }}
securityContext:
  allowPrivilegeEscalation: false
  readOnlyRootFilesystem: true
  capabilities:
    drop: [ALL]
env:
  - name: PERSONALAGENT_DATABASE_URL
    valueFrom:
      secretKeyRef:
        name: {{ required "existingSecret is required: the name of a Secret with the key database-url; see docs/deploy.md" .Values.existingSecret }}
        key: database-url
  - name: OPENAI_API_KEY
    valueFrom:
      secretKeyRef:
        name: {{ .Values.existingSecret }}
        key: openai-api-key
        optional: true
  - name: PERSONALAGENT_POLICY
    value: {{ .Values.policy | quote }}
  - name: PERSONALAGENT_RESPONDER
    value: {{ .Values.responder | quote }}
  - name: PERSONALAGENT_DRAIN_S
    value: {{ .Values.drainSeconds | quote }}
  {{- with .Values.openaiBaseUrl }}
  - name: OPENAI_BASE_URL
    value: {{ . | quote }}
  {{- end }}
  {{- range $name, $value := .Values.settings }}
  - name: PERSONALAGENT_{{ upper $name }}
    {{- /* YAML's numbers are floats here: 10000000 must not become 1e+07 */}}
    value: {{ if and (kindIs "float64" $value) (eq (floor $value) $value) }}{{ int64 $value | quote }}{{ else }}{{ $value | toString | quote }}{{ end }}
  {{- end }}
volumeMounts:
  - name: models
    mountPath: /models
  - name: scratch
    mountPath: /data
  - name: scratch
    mountPath: /tmp
{{- end -}}
