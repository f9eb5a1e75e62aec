{{/* Names, labels and the parts that every pod shares. */}}
{{- define "modelpress.fullname" -}}
{{- if contains "modelpress" .Release.Name }}{{ .Release.Name | trunc 40 | trimSuffix "-" }}{{ else }}{{ printf "%s-modelpress" .Release.Name | trunc 40 | trimSuffix "-" }}{{ end }}
{{- end }}

{{/* Labels that select pods; call with (list $ component). */}}
{{- define "modelpress.selector" -}}
app.kubernetes.io/name: modelpress
app.kubernetes.io/instance: {{ (index . 0).Release.Name }}
app.kubernetes.io/component: {{ index . 1 }}
{{- end }}

{{- define "modelpress.labels" -}}
{{ include "modelpress.selector" . }}
app.kubernetes.io/version: {{ (index . 0).Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ (index . 0).Release.Service }}
helm.sh/chart: {{ printf "%s-%s" (index . 0).Chart.Name (index . 0).Chart.Version }}
{{- end }}

{{/* The image reference; call with (list $ image). */}}
{{- define "modelpress.image" -}}
{{- $image := index . 1 -}}
{{- if $image.digest }}{{ $image.repository }}@{{ $image.digest }}{{ else }}{{ $image.repository }}:{{ $image.tag | default (index . 0).Chart.AppVersion }}{{ end }}
{{- end }}

{{/* Pod level fields of the "restricted" profile; call with (list $ component). */}}
{{- define "modelpress.pod" -}}
{{- $root := index . 0 -}}
serviceAccountName: {{ include "modelpress.fullname" $root }}-{{ index . 1 }}
automountServiceAccountToken: false
enableServiceLinks: false
securityContext:
  runAsNonRoot: true
  runAsUser: 10001
  runAsGroup: 10001
  fsGroup: 10001
  seccompProfile:
    type: RuntimeDefault
{{- with $root.Values.imagePullSecrets }}
imagePullSecrets:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- end }}

{{- define "modelpress.containerSecurity" -}}
securityContext:
  allowPrivilegeEscalation: false
  readOnlyRootFilesystem: true
  runAsNonRoot: true
  capabilities:
    drop: [ALL]
{{- end }}

{{/* Node choice; call with (list $ component values). */}}
{{- define "modelpress.placement" -}}
topologySpreadConstraints:
  - maxSkew: 1
    topologyKey: kubernetes.io/hostname
    whenUnsatisfiable: ScheduleAnyway
    labelSelector:
      matchLabels:
        {{- include "modelpress.selector" (list (index . 0) (index . 1)) | nindent 8 }}
{{- with (index . 2).nodeSelector }}
nodeSelector:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- with (index . 2).tolerations }}
tolerations:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- end }}

{{/* Settings from the ConfigMap and addresses from the component's Secret; call with (list $ secret-override keys). */}}
{{- define "modelpress.environment" -}}
{{- $root := index . 0 -}}
{{- $secret := (index . 1) | default $root.Values.secrets.name -}}
{{- range concat (index . 2) $root.Values.secrets.extraKeys }}
- name: {{ . }}
  valueFrom:
    secretKeyRef:
      name: {{ $secret }}
      key: {{ . }}
{{- end }}
{{- end }}

{{/* Writable places of a read-only root; call with the size limit of the scratch. */}}
{{- define "modelpress.mounts" -}}
volumeMounts:
  - name: tmp
    mountPath: /tmp
  - name: data
    mountPath: /var/lib/modelpress
{{- end }}
{{- define "modelpress.volumes" -}}
volumes:
  - name: tmp
    emptyDir:
      sizeLimit: 256Mi
  - name: data
    emptyDir:
      sizeLimit: {{ . }}
{{- end }}

{{/* Rolls the pods when a setting changes. */}}
{{- define "modelpress.checksum" -}}
checksum/settings: {{ .Values.settings | toJson | sha256sum }}
{{- end }}

{{/*
Probes of a process without a port: its first process exists and is neither stopped nor dead. They must not ask the
broker, whose outage would then restart every worker; a worker that hangs loses its lease and the job moves on.
*/}}
{{- define "modelpress.processProbes" -}}
{{- $alive := list "python3" "-c" "import sys; sys.exit(open('/proc/1/stat').read().rpartition(')')[2].split()[0] in 'TtZX')" -}}
startupProbe:
  exec: { command: {{ $alive | toJson }} }
  periodSeconds: 5
  timeoutSeconds: 5
  failureThreshold: 24
livenessProbe:
  exec: { command: {{ $alive | toJson }} }
  periodSeconds: 30
  timeoutSeconds: 10
readinessProbe:
  exec: { command: {{ $alive | toJson }} }
  periodSeconds: 30
  timeoutSeconds: 10
{{- end }}
