package main

import "k8s.io/apimachinery/pkg/runtime/schema"

var (
	podKind        = schema.GroupVersionKind{Version: "v1", Kind: "Pod"}
	serviceKind    = schema.GroupVersionKind{Version: "v1", Kind: "Service"}
	configMapKind  = schema.GroupVersionKind{Version: "v1", Kind: "ConfigMap"}
	secretKind     = schema.GroupVersionKind{Version: "v1", Kind: "Secret"}
	eventKind      = schema.GroupVersionKind{Version: "v1", Kind: "Event"}
	deploymentKind = schema.GroupVersionKind{Group: "apps", Version: "v1", Kind: "Deployment"}
	leaseKind      = schema.GroupVersionKind{Group: "coordination.k8s.io", Version: "v1", Kind: "Lease"}
	crdKind        = schema.GroupVersionKind{Group: "apiextensions.k8s.io", Version: "v1", Kind: "CustomResourceDefinition"}
)

// writtenPatches has every directive of strategic merge, well used and misused.
var writtenPatches = []struct {
	kind            schema.GroupVersionKind
	original, patch string
}{
	{podKind, `{"metadata":{"labels":{"a":"1","b":"2"}}}`, `{"metadata":{"labels":{"a":null,"c":"3","d":null}}}`},
	{podKind, `{"metadata":{"labels":{"a":"1"}}}`, `{"metadata":{"labels":{"$patch":"replace","c":"3"}}}`},
	{podKind, `{"metadata":{"labels":{"a":"1"}}}`, `{"metadata":{"labels":{"$patch":"delete"}}}`},
	{podKind, `{"metadata":{"labels":{"a":"1"}}}`, `{"metadata":{"labels":{"$patch":"merge","c":"3"}}}`},
	{podKind, `{"metadata":{"labels":{"a":"1"}}}`, `{"metadata":{"labels":{"$patch":"nonsense"}}}`},
	{podKind, `{"spec":{"containers":[{"name":"a","image":"1"},{"name":"b","image":"2"}]}}`, `{"spec":{"containers":[{"name":"b","image":"3"},{"name":"c","image":"4"}]}}`},
	{podKind, `{"spec":{"containers":[{"name":"a","image":"1"},{"name":"b","image":"2"}]}}`, `{"spec":{"containers":[{"name":"a","$patch":"delete"}]}}`},
	{podKind, `{"spec":{"containers":[{"name":"a","image":"1"},{"name":"b","image":"2"}]}}`, `{"spec":{"containers":[{"$patch":"replace"},{"name":"z","image":"9"}]}}`},
	{podKind, `{"spec":{"containers":[{"name":"a","image":"1"}]}}`, `{"spec":{"containers":[{"$patch":"merge","name":"z"}]}}`},
	{podKind, `{"spec":{"containers":[{"name":"a","image":"1"}]}}`, `{"spec":{"containers":[{"$patch":"delete"}]}}`},
	{podKind, `{"spec":{"containers":[{"name":"a","image":"1"}]}}`, `{"spec":{"containers":[{"image":"2"}]}}`},
	{podKind, `{"spec":{"containers":[{"name":"a","image":"1"}]}}`, `{"spec":{"containers":["a"]}}`},
	{podKind, `{"spec":{"containers":[{"name":"a","image":"1","command":["x"]}]}}`, `{"spec":{"containers":[{"name":"a","command":["y"],"image":null}]}}`},
	{podKind, `{"spec":{"containers":[{"name":"a"},{"name":"b"},{"name":"c"}]}}`, `{"spec":{"$setElementOrder/containers":[{"name":"c"},{"name":"a"}],"containers":[{"name":"c","image":"x"}]}}`},
	{podKind, `{"spec":{"containers":[{"name":"a"},{"name":"b"},{"name":"c"}]}}`, `{"spec":{"$setElementOrder/containers":[{"name":"c"},{"name":"a"}]}}`},
	{podKind, `{"spec":{}}`, `{"spec":{"$setElementOrder/containers":[{"name":"c"},{"name":"a"}],"containers":[{"name":"a"}]}}`},
	{podKind, `{"spec":{"containers":[{"name":"a"}]}}`, `{"spec":{"$setElementOrder/containers":[{"name":"a"}],"containers":[{"name":"b"}]}}`},
	{podKind, `{"spec":{"containers":[{"name":"a"}]}}`, `{"spec":{"$setElementOrder/containers":"a"}}`},
	{podKind, `{"metadata":{"finalizers":["a","b","c"]}}`, `{"metadata":{"$deleteFromPrimitiveList/finalizers":["b"],"finalizers":["d"]}}`},
	{podKind, `{"metadata":{"finalizers":["a","b","c"]}}`, `{"metadata":{"$setElementOrder/finalizers":["c","d","a"],"finalizers":["d"]}}`},
	{podKind, `{"metadata":{"finalizers":["a","b","c"]}}`, `{"metadata":{"$setElementOrder/finalizers":["c","a"],"$deleteFromPrimitiveList/finalizers":["b"]}}`},
	{podKind, `{"metadata":{}}`, `{"metadata":{"$deleteFromPrimitiveList/finalizers":["b"]}}`},
	{podKind, `{"metadata":{"finalizers":["a"]}}`, `{"metadata":{"finalizers":["a","b","b"]}}`},
	{podKind, `{"spec":{"volumes":[{"name":"v","emptyDir":{}}]}}`, `{"spec":{"volumes":[{"name":"v","$retainKeys":["name","hostPath"],"hostPath":{"path":"/x"}}]}}`},
	{podKind, `{"spec":{"volumes":[{"name":"v","emptyDir":{}}]}}`, `{"spec":{"volumes":[{"name":"v","$retainKeys":["name"],"hostPath":{"path":"/x"}}]}}`},
	{podKind, `{"spec":{"volumes":[{"name":"v","emptyDir":{}}]}}`, `{"spec":{"volumes":[{"name":"v","$retainKeys":"name"}]}}`},
	{podKind, `{"spec":{"tolerations":[{"key":"a"}]}}`, `{"spec":{"tolerations":[{"key":"b"}]}}`},
	{podKind, `{"spec":{"imagePullSecrets":[{"name":"a"}]}}`, `{"spec":{"imagePullSecrets":[{"name":"b"}]}}`},
	{podKind, `{"spec":{"nodeSelector":{"a":"b"},"hostNetwork":true}}`, `{"spec":{"nodeSelector":null,"hostNetwork":"x","hostAliases":[{"ip":"1","hostnames":["a",null]}]}}`},
	{podKind, `{"spec":{"a":{"b":1}}}`, `{"spec":{"a":{"c":1}}}`},
	{podKind, `{"spec":{"containers":[{"name":"a","env":[{"name":"X","value":"1"},{"name":"Y","value":"2"}],"ports":[{"containerPort":80,"protocol":"TCP"}]}]}}`, `{"spec":{"containers":[{"name":"a","env":[{"name":"X","$patch":"delete"},{"name":"Z","value":"3"}],"ports":[{"containerPort":80,"name":"http"},{"containerPort":81}]}]}}`},
	{podKind, `{"spec":{"containers":{"name":"a"}}}`, `{"spec":{"containers":[{"name":"b","$patch":"delete"},{"name":"c"}]}}`},
	{podKind, `{"status":{"conditions":[{"type":"Ready","status":"False"}],"podIPs":[{"ip":"1"}]}}`, `{"status":{"conditions":[{"type":"Ready","status":"True"},{"type":"X","status":"True"}],"podIPs":[{"ip":"2"}]}}`},
	{deploymentKind, `{"spec":{"strategy":{"type":"RollingUpdate","rollingUpdate":{"maxSurge":1}}}}`, `{"spec":{"strategy":{"$retainKeys":["type"],"type":"Recreate"}}}`},
	{deploymentKind, `{"spec":{"strategy":{"type":"RollingUpdate","rollingUpdate":{"maxSurge":1}}}}`, `{"spec":{"strategy":{"$retainKeys":["type"],"type":"Recreate","rollingUpdate":null}}}`},
	{deploymentKind, `{"spec":{"template":{"spec":{"containers":[{"name":"a","image":"x:1"}]}}}}`, `{"spec":{"template":{"metadata":{"annotations":{"r":"1"}},"spec":{"$setElementOrder/containers":[{"name":"a"}],"containers":[{"name":"a","image":"x:2"}]}}}}`},
	{deploymentKind, `{"spec":{"replicas":1}}`, `{"$patch":"replace","spec":{"replicas":2}}`},
	{deploymentKind, `{"spec":{"replicas":1}}`, `{"$patch":"delete"}`},
	{deploymentKind, `{"spec":{"selector":{"matchLabels":{"a":"b"},"matchExpressions":[{"key":"x"}]}}}`, `{"spec":{"selector":{"matchExpressions":[{"key":"y"}]}}}`},
	{serviceKind, `{"spec":{"ports":[{"port":80,"name":"a"},{"port":81,"name":"b"}]}}`, `{"spec":{"ports":[{"port":80,"targetPort":"http"}]}}`},
	{serviceKind, `{"spec":{"ports":[{"port":80,"name":"a"},{"port":80,"name":"b","protocol":"UDP"}]}}`, `{"spec":{"ports":[{"port":80,"$patch":"delete"}]}}`},
	{configMapKind, `{"data":{"a":"1"}}`, `{"data":{"b":"2","a":null},"binaryData":{"x":null,"y":"AA=="}}`},
	{eventKind, `{"count":1,"series":null}`, `{"count":2,"lastTimestamp":"2026-11-23T17:20:00Z"}`},
}

// writtenBodies are good and bad JSON bodies.
var writtenBodies = []struct {
	kind schema.GroupVersionKind
	body string
}{
	{deploymentKind, `{"spec":{"foo":1,"template":{"spec":{"containers":[{"name":"a","imag":"b"}]}}}}`},
	{deploymentKind, `{"spec":{"replicas":1,"replicas":2},"spec":{}}`},
	{deploymentKind, `{"metadata":{"labels":{"a":"1","a":"2"}},"Spec":{}}`},
	{deploymentKind, `{"spec":{"replicas":"3"}}`},
	{deploymentKind, `{"spec":{"replicas":1.5}}`},
	{deploymentKind, `{"spec":{"replicas":99999999999}}`},
	{deploymentKind, `{"spec":{"replicas":true,"minReadySeconds":"x"}}`},
	{deploymentKind, `{"spec":"x"}`},
	{deploymentKind, `{"spec":[]}`},
	{deploymentKind, `{"spec":{"template":{"spec":{"containers":{}}}}}`},
	{deploymentKind, `{"spec":{"template":{"spec":{"containers":[1]}}}}`},
	{deploymentKind, `{"spec":{"template":{"spec":{"containers":[null,{"name":"a","ports":[{"protocol":1}]}]}}}}`},
	{deploymentKind, `{"metadata":{"labels":{"a":1}}}`},
	{deploymentKind, `{"metadata":{"labels":[]}}`},
	{deploymentKind, `{"metadata":{"finalizers":"x"}}`},
	{deploymentKind, `{"metadata":{"finalizers":[1]}}`},
	{deploymentKind, `{"metadata":{"creationTimestamp":1}}`},
	{deploymentKind, `{"metadata":{"creationTimestamp":"today"}}`},
	{deploymentKind, `{"metadata":{"creationTimestamp":"2026-11-23"}}`},
	{deploymentKind, `{"metadata":{"creationTimestamp":"2026-13-23T00:00:00Z"}}`},
	{deploymentKind, `{"metadata":{"creationTimestamp":"2026-11-23T25:00:00Z"}}`},
	{deploymentKind, `{"metadata":{"creationTimestamp":"2026-11-23T17:20:00.5+01:00","managedFields":[{"manager":"m","fieldsV1":{"f:a":{}}}]}}`},
	{deploymentKind, `{"metadata":{"name":"a","labels":{"b":null,"a":"x"},"annotations":{}},"spec":{"replicas":null,"paused":false,"strategy":{"rollingUpdate":{"maxSurge":"25%","maxUnavailable":1}}}}`},
	{deploymentKind, `{"kind":1}`},
	{deploymentKind, `{"apiVersion":[]}`},
	{deploymentKind, `[]`},
	{deploymentKind, `{"apiVersion":"a/b/c"}`},
	{deploymentKind, `{"status":{"conditions":[{"lastUpdateTime":null,"type":"x"}]}}`},
	{podKind, `{"spec":{"volumes":[{"emptyDir":1}]}}`},
	{podKind, `{"spec":{"volumes":[{"name":"a","secret":{"items":[{"key":"a","mode":"x"}]}}]}}`},
	{podKind, `{"spec":{"volumes":[{"configMap":{"name":5}}]}}`},
	{podKind, `{"spec":{"containers":[{"livenessProbe":{"httpGet":{"port":true}}}]}}`},
	{podKind, `{"spec":{"containers":[{"livenessProbe":{"httpGet":{"port":1.5}}}]}}`},
	{podKind, `{"spec":{"containers":[{"livenessProbe":{"httpGet":{"port":"http","scheme":"HTTP"}}}]}}`},
	{podKind, `{"spec":{"containers":[{"resources":{"limits":{"cpu":"a"}}}]}}`},
	{podKind, `{"spec":{"containers":[{"resources":{"limits":{"cpu":true}}}]}}`},
	{podKind, `{"spec":{"containers":[{"resources":{"limits":[]}}]}}`},
	{podKind, `{"spec":{"containers":[{"name":"a","resources":{"limits":{"memory":"1024Ki","cpu":0.5,"x":null,"y":1000,"z":"0.1","w":"1e3","v":"-5Mi"}},"command":null}],"terminationGracePeriodSeconds":0}}`},
	{podKind, `{"spec":{"containers":[],"nodeSelector":{"a":true}}}`},
	{podKind, `{"spec":{"ephemeralContainers":[{"name":"a","image":5}]}}`},
	{podKind, `{"spec":{"ephemeralContainers":[{"name":"a","bogus":5}]},"status":{"phase":"Running","podIP":null}}`},
	{secretKind, `{"data":{"a":"%%%"}}`},
	{secretKind, `{"data":{"a":"YQ==","b":"","c":null,"d":"Y\nQ=="},"stringData":{"x":"y"}}`},
	{secretKind, `{"data":{"a":"YQ="}}`},
	{secretKind, `{"data":{"a":1}}`},
	{configMapKind, `{"data":{"b":"1","a":"2"},"binaryData":{"x":"AA=="},"immutable":true}`},
	{configMapKind, `{"immutable":"true"}`},
	{eventKind, `{"eventTime":"2026-11-23T17:20:00.000001+01:00","firstTimestamp":null,"involvedObject":{}}`},
	{eventKind, `{"eventTime":"2026-11-23T17:20:00Z"}`},
	{leaseKind, `{"spec":{"leaseDurationSeconds":40,"renewTime":"2026-11-23T17:20:00.123456Z","holderIdentity":""}}`},
	{leaseKind, `{"spec":{"renewTime":5}}`},
	{crdKind, `{"spec":{"versions":[{"name":"v1","schema":{"openAPIV3Schema":{"type":"object","maximum":5.0,"minimum":1.5,"default":{"b":1,"a":null},"additionalProperties":false,"items":{"type":"string"},"properties":{"x":{"additionalProperties":{"type":"string"},"enum":["a",1,null]}}}}}]}}`},
	{crdKind, `{"spec":{"versions":[{"schema":{"openAPIV3Schema":{"additionalProperties":5}}}]}}`},
}

// writtenDefaults are objects whose defaults the table can tell without code.
var writtenDefaults = []struct {
	kind schema.GroupVersionKind
	body string
}{
	{deploymentKind, `{"spec":{"strategy":{"type":"Recreate"},"template":{"spec":{"containers":[{"name":"a","image":"x:1","imagePullPolicy":"Never","ports":[{"containerPort":1}],"livenessProbe":{"httpGet":{"port":1}}}]}}}}`},
	{podKind, `{"spec":{"enableServiceLinks":true,"containers":[{"name":"a","image":"x","imagePullPolicy":"Always","env":[{"name":"A","valueFrom":{"fieldRef":{"fieldPath":"x"}}}]}],"volumes":[{"name":"a","configMap":{"name":"b"}},{"name":"b","secret":{}}],"restartPolicy":"Never"}}`},
	{serviceKind, `{"spec":{"internalTrafficPolicy":"Cluster","ports":[{"port":1,"targetPort":2}]}}`},
	{secretKind, `{}`},
}
