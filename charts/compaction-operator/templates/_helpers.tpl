{{- define "compaction-operator.name" -}}
{{- default .Chart.Name .Values.nameOverride | trunc 63 | trimSuffix "-" }}
{{- end }}

{{/* 52 characters, so that what is appended stays within the 63 of a label. */}}
{{- define "compaction-operator.fullname" -}}
{{- $name := default .Chart.Name .Values.nameOverride }}
{{- $both := ternary .Release.Name (printf "%s-%s" .Release.Name $name) (contains $name .Release.Name) }}
{{- default $both .Values.fullnameOverride | trunc 52 | trimSuffix "-" }}
{{- end }}

{{- define "compaction-operator.selectorLabels" -}}
app.kubernetes.io/name: {{ include "compaction-operator.name" . }}
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end }}

{{- define "compaction-operator.labels" -}}
{{ include "compaction-operator.selectorLabels" . }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version | replace "+" "_" | trunc 63 | trimSuffix "-" }}
{{- with .Values.commonLabels }}
{{ toYaml . }}
{{- end }}
{{- end }}

{{/* The pods that are chosen by Deployment, Service and policies; the test's pod is not one of them. */}}
{{- define "compaction-operator.podSelector" -}}
{{ include "compaction-operator.selectorLabels" . }}
app.kubernetes.io/component: controller
{{- end }}

{{- define "compaction-operator.testSelector" -}}
{{ include "compaction-operator.selectorLabels" . }}
app.kubernetes.io/component: test
{{- end }}

{{- define "compaction-operator.serviceAccountName" -}}
{{- if .Values.serviceAccount.create }}
{{- default (include "compaction-operator.fullname" .) .Values.serviceAccount.name }}
{{- else }}
{{- required "serviceAccount.name must name an existing service account, because serviceAccount.create is false" .Values.serviceAccount.name }}
{{- end }}
{{- end }}

{{- define "compaction-operator.image" -}}
{{- with .Values.image -}}
{{- if .digest -}}
{{ .repository }}@{{ .digest }}
{{- else -}}
{{ .repository }}:{{ default $.Chart.AppVersion .tag }}
{{- end }}
{{- end }}
{{- end }}
