{{/* What all pods of a role share. Each takes (dict "root" $ "role" "edge"). */}}

{{- define "weir.name" -}}
{{ printf "%s-%s" .root.Release.Name .role | trunc 57 | trimSuffix "-" }}
{{- end }}

{{- define "weir.selector" -}}
app.kubernetes.io/name: weir
app.kubernetes.io/instance: {{ .root.Release.Name }}
app.kubernetes.io/component: {{ .role }}
{{- end }}

{{- define "weir.labels" -}}
{{ include "weir.selector" . }}
app.kubernetes.io/version: {{ .root.Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .root.Release.Service }}
helm.sh/chart: {{ .root.Chart.Name }}-{{ .root.Chart.Version }}
{{- end }}

{{- define "weir.secret" -}}
{{ .root.Values.secrets.existing | default (printf "%s-weir" .root.Release.Name) }}
{{- end }}

{{- define "weir.image" -}}
{{ .root.Values.image.repository }}:{{ .root.Values.image.tag | default .root.Chart.AppVersion }}
{{- end }}

{{/* Metadata of pods: what they are made anew for when it changes. */}}
{{- define "weir.pod.metadata" -}}
labels:
  {{- include "weir.labels" . | nindent 2 }}
annotations:
  checksum/config: {{ .root.Values.config | sha256sum }}
{{- end }}

{{/* Of pods, whatever they run. */}}
{{- define "weir.pod.spec" -}}
{{- $own := index .root.Values .role -}}
automountServiceAccountToken: false
enableServiceLinks: false
{{- with .root.Values.imagePullSecrets }}
imagePullSecrets: {{ toYaml . | nindent 2 }}
{{- end }}
securityContext:
  runAsNonRoot: true
  runAsUser: 10001
  runAsGroup: 10001
  fsGroup: 10001
  seccompProfile: {type: RuntimeDefault}
# Not all on one machine.
topologySpreadConstraints:
  - maxSkew: 1
    topologyKey: kubernetes.io/hostname
    whenUnsatisfiable: ScheduleAnyway
    labelSelector:
      matchLabels: {{- include "weir.selector" . | nindent 8 }}
{{- with $own.nodeSelector }}
nodeSelector: {{ toYaml . | nindent 2 }}
{{- end }}
{{- with $own.tolerations }}
tolerations: {{ toYaml . | nindent 2 }}
{{- end }}
volumes:
  - name: data
    emptyDir: {}
  - name: config
    configMap: {name: {{ .root.Release.Name }}-weir}
{{- end }}

{{- define "weir.container" -}}
{{- $own := index .root.Values .role -}}
image: {{ include "weir.image" . | quote }}
imagePullPolicy: {{ .root.Values.image.pullPolicy }}
securityContext:
  allowPrivilegeEscalation: false
  readOnlyRootFilesystem: true
  capabilities: {drop: [ALL]}
resources: {{ toYaml $own.resources | nindent 2 }}
livenessProbe:
  httpGet: {path: /healthz, port: admin}
  periodSeconds: 10
  timeoutSeconds: 3
  failureThreshold: 6
readinessProbe:
  httpGet: {path: /readyz, port: admin}
  periodSeconds: 2
  timeoutSeconds: 2
volumeMounts:
  - {name: data, mountPath: /data}
  - {name: config, mountPath: /etc/weir, readOnly: true}
{{- end }}

{{- define "weir.env" -}}
- {name: WEIR_CONFIG, value: /etc/weir/weir.toml}
- {name: WEIR_DATA, value: /data}
- {name: WEIR_ADMIN__LISTEN, value: "0.0.0.0:9910"}
{{- end }}

{{/* Of origins and edges. */}}
{{- define "weir.env.node" -}}
{{- $own := index .root.Values .role -}}
{{- include "weir.env" . }}
- name: POD_NAME
  valueFrom: {fieldRef: {fieldPath: metadata.name}}
- name: POD_IP
  valueFrom: {fieldRef: {fieldPath: status.podIP}}
- name: NODE_IP
  valueFrom: {fieldRef: {fieldPath: status.hostIP}}
- {name: WEIR_CLUSTER__NAME, value: $(POD_NAME)}
- {name: WEIR_CLUSTER__CONTROL, value: '["http://{{ include "weir.name" (dict "root" .root "role" "control") }}-nodes:8090"]'}
- name: WEIR_CLUSTER__JOIN_TOKEN
  valueFrom: {secretKeyRef: {name: {{ include "weir.secret" . }}, key: join-token}}
- {name: WEIR_UNREADY_S, value: {{ $own.unreadySeconds | quote }}}
- {name: WEIR_DRAIN_S, value: {{ $own.drainSeconds | quote }}}
{{- end }}
