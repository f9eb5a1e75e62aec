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

{{/* Pod level fields of the "restricted" profile; call with (list $ account). */}}
{{- define "modelpress.pod" -}}
{{- $root := index . 0 -}}
serviceAccountName: {{ include "modelpress.fullname" $root }}-{{ index . 1 }}
automountServiceAccountToken: false
enableServiceLinks: false
{{- if $root.Values.userNamespaces }}
hostUsers: false
{{- end }}
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

{{/* Addresses from the component's Secret; call with (list $ secret-override keys). */}}
{{- define "modelpress.environment" -}}
{{- $root := index . 0 -}}
{{- $secret := (index . 1) | default $root.Values.secrets.name -}}
{{- $stores := ternary (list "AWS_ENDPOINT" "AWS_REGION" "AWS_ACCESS_KEY_ID" "AWS_SECRET_ACCESS_KEY") list $root.Values.development.enabled -}}
{{- range concat (index . 2) $stores $root.Values.secrets.extraKeys | uniq }}
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

{{/*
What a container of the migration holds. It is a Job before everything else, or, with stores in the chart that a hook would
run before, an init container of every pod: migrating twice or from two places at a time is safe. Call with (list $ secret).
*/}}
{{- define "modelpress.migration" -}}
{{- $root := index . 0 -}}
name: migration
image: {{ include "modelpress.image" (list $root $root.Values.images.gateway) }}
imagePullPolicy: {{ $root.Values.images.gateway.pullPolicy }}
{{ include "modelpress.containerSecurity" $root }}
command: [python3, -m, app.stores.migrate]
env:
  {{- include "modelpress.environment" (list $root (index . 1) (list "DATABASE_URL")) | nindent 2 }}
resources:
  {{- toYaml $root.Values.migration.resources | nindent 2 }}
{{ include "modelpress.mounts" $root }}
{{- end }}

{{- define "modelpress.initContainers" -}}
{{- if .Values.development.enabled }}
initContainers:
  - {{- include "modelpress.migration" (list . .Values.secrets.migration) | nindent 4 }}
{{- end }}
{{- end }}

{{/* A pool with what the defaults say about it; call with (list $ pool), read with fromYaml. */}}
{{- define "modelpress.pool" -}}
{{- $root := index . 0 -}}
{{- $pool := mergeOverwrite (deepCopy $root.Values.workers.defaults) (index . 1) -}}
{{- $_ := set $pool "drainSeconds" (int $pool.drainSeconds | default (ternary 3600 60 $pool.autoscaling.enabled)) -}}
{{- $_ := set $pool "childMemoryBytes" ($pool.childMemoryBytes | int64 | toString) -}}
{{- toYaml $pool }}
{{- end }}

{{/* The pools that are made, as {pools: […]}; read with fromYaml. */}}
{{- define "modelpress.pools" -}}
{{- $pools := list -}}
{{- range .Values.workers.pools }}
{{- $pool := include "modelpress.pool" (list $ .) | fromYaml }}
{{- if and (has "egress" $pool.queues) (gt (len $pool.queues) 1) }}
{{- fail (printf "workers.pools: %s takes egress and other queues; what reaches the outside opens no models, so give egress a pool of its own" $pool.name) }}
{{- end }}
{{- if $pool.enabled }}{{ $pools = append $pools $pool }}{{ end }}
{{- end }}
{{- toYaml (dict "pools" $pools) }}
{{- end }}

{{/* Matchers of this release's series. */}}
{{- define "modelpress.matchers" -}}
{{- .Values.monitoring.matchers | default (printf "namespace=%q" .Release.Namespace) }}
{{- end }}

{{/* Rolls the pods when a setting changes. */}}
{{- define "modelpress.checksum" -}}
checksum/settings: {{ list .Values.settings .Values.tracing | toJson | sha256sum }}
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

{{/* Selects the pods that may reach out, by (list $ components-beside-the-pools). */}}
{{- define "modelpress.egressComponents" -}}
- key: app.kubernetes.io/component
  operator: In
  values:
    {{- range index . 1 }}
    - {{ . }}
    {{- end }}
    {{- range (include "modelpress.pools" (index . 0) | fromYaml).pools }}
    {{- if has "egress" .queues }}
    - worker-{{ .name }}
    {{- end }}
    {{- end }}
{{- end }}

{{/* Selects the pods of every pool. */}}
{{- define "modelpress.workerComponents" -}}
- key: app.kubernetes.io/component
  operator: In
  values:
    {{- range (include "modelpress.pools" . | fromYaml).pools }}
    - worker-{{ .name }}
    {{- end }}
{{- end }}
