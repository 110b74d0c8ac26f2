package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"reflect"
	"time"

	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	jsonserializer "k8s.io/apimachinery/pkg/runtime/serializer/json"
	"k8s.io/apimachinery/pkg/runtime/serializer/protobuf"
	"k8s.io/apimachinery/pkg/util/intstr"
	"k8s.io/apimachinery/pkg/util/strategicpatch"
	"sigs.k8s.io/randfill"
)

// corpusKinds are the kinds that are served first; the others follow the same table.
var corpusKinds = []schema.GroupVersionKind{
	{Version: "v1", Kind: "Namespace"}, {Version: "v1", Kind: "Node"}, {Version: "v1", Kind: "Pod"},
	{Version: "v1", Kind: "ConfigMap"}, {Version: "v1", Kind: "Secret"}, {Version: "v1", Kind: "Service"},
	{Version: "v1", Kind: "ServiceAccount"}, {Version: "v1", Kind: "Event"}, {Version: "v1", Kind: "Binding"},
	{Version: "v1", Kind: "DeleteOptions"}, {Group: "events.k8s.io", Version: "v1", Kind: "Event"},
	{Group: "coordination.k8s.io", Version: "v1", Kind: "Lease"}, {Group: "discovery.k8s.io", Version: "v1", Kind: "EndpointSlice"},
	{Group: "apps", Version: "v1", Kind: "Deployment"}, {Group: "apps", Version: "v1", Kind: "ReplicaSet"},
	{Group: "autoscaling", Version: "v1", Kind: "Scale"}, {Group: "autoscaling", Version: "v2", Kind: "HorizontalPodAutoscaler"},
	{Group: "rbac.authorization.k8s.io", Version: "v1", Kind: "Role"}, {Group: "rbac.authorization.k8s.io", Version: "v1", Kind: "ClusterRole"},
	{Group: "rbac.authorization.k8s.io", Version: "v1", Kind: "RoleBinding"}, {Group: "rbac.authorization.k8s.io", Version: "v1", Kind: "ClusterRoleBinding"},
	{Group: "authorization.k8s.io", Version: "v1", Kind: "SelfSubjectAccessReview"}, {Group: "authentication.k8s.io", Version: "v1", Kind: "TokenReview"},
	{Group: "policy", Version: "v1", Kind: "Eviction"}, {Group: "certificates.k8s.io", Version: "v1", Kind: "CertificateSigningRequest"},
	{Group: "apiextensions.k8s.io", Version: "v1", Kind: "CustomResourceDefinition"},
}

// patchKinds have the lists and directives that strategic merge knows.
var patchKinds = []schema.GroupVersionKind{
	{Version: "v1", Kind: "Pod"}, {Version: "v1", Kind: "Service"}, {Version: "v1", Kind: "Node"},
	{Version: "v1", Kind: "ServiceAccount"}, {Group: "apps", Version: "v1", Kind: "Deployment"},
}

func writeCorpus(dir string) error {
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return err
	}
	for name, write := range map[string]func() ([]any, error){
		"protobuf.jsonl":  protobufCases,
		"strategic.jsonl": strategicCases,
		"decode.jsonl":    decodeCases,
		"defaults.jsonl":  defaultCases,
	} {
		cases, err := write()
		if err != nil {
			return fmt.Errorf("%s: %w", name, err)
		}
		var out bytes.Buffer
		for _, c := range cases {
			line, err := json.Marshal(c)
			if err != nil {
				return err
			}
			out.Write(append(line, '\n'))
		}
		if err := os.WriteFile(filepath.Join(dir, name), out.Bytes(), 0o644); err != nil {
			return err
		}
	}
	return nil
}

type protobufCase struct {
	Kind  [3]string       `json:"kind"`
	JSON  json.RawMessage `json:"json"`
	Proto []byte          `json:"proto"`
}

func kindOfCase(gvk schema.GroupVersionKind) [3]string {
	return [3]string{gvk.Group, gvk.Version, gvk.Kind}
}

// protobufCases holds for each kind an empty object and random ones, and the JSON that upstream makes of the bytes.
func protobufCases() ([]any, error) {
	serializer := protobuf.NewSerializer(scheme(), scheme())
	cases := []any{}
	for index, gvk := range corpusKinds {
		samples := 3
		if gvk.Kind == "Pod" || gvk.Group == "apps" {
			samples = 9 // the dense ones of these are too large to keep
		}
		for sample := range samples {
			object, err := scheme().New(gvk)
			if err != nil {
				return nil, err
			}
			if sample > 0 {
				// The second sample is sparse, the third dense, those after it very sparse.
				chance := []float64{0, 0.6, 0.35, 0.8, 0.8, 0.8, 0.85, 0.85, 0.9}[sample]
				filler(int64(index*10+sample), chance, 12, "").Fill(object)
			}
			object.GetObjectKind().SetGroupVersionKind(gvk)
			var wire bytes.Buffer
			if err := serializer.Encode(object, &wire); err != nil {
				return nil, err
			}
			back, _, err := serializer.Decode(wire.Bytes(), nil, nil)
			if err != nil {
				return nil, fmt.Errorf("%s: %w", gvk, err)
			}
			back.GetObjectKind().SetGroupVersionKind(gvk)
			// Once more: the bytes of a decoded object have no nil entries in maps, which JSON can't tell.
			wire.Reset()
			if err := serializer.Encode(back, &wire); err != nil {
				return nil, err
			}
			text, err := json.Marshal(back)
			if err != nil {
				return nil, fmt.Errorf("%s: %w", gvk, err)
			}
			if len(text) > 3600 {
				continue
			}
			cases = append(cases, protobufCase{kindOfCase(gvk), text, wire.Bytes()})
		}
	}
	return cases, nil
}

var quantities = []string{"0", "1", "100m", "1.5", "1Gi", "1536Mi", "500", "1e3", "250n", "10k", "1025", "128974848"}

// filler makes random objects. A short alphabet makes list elements of two objects share their keys.
func filler(seed int64, nilChance float64, depth int, alphabet string) *randfill.Filler {
	text := func(c randfill.Continue) string {
		if alphabet != "" {
			return string(alphabet[c.Intn(len(alphabet))])
		}
		letters := []rune("abcdefgh-./ÄÖ\"\\<&")
		out := make([]rune, c.Intn(8))
		for i := range out {
			out[i] = letters[c.Intn(len(letters))]
		}
		return string(out)
	}
	return randfill.NewWithSeed(seed).NilChance(nilChance).NumElements(1, 2).MaxDepth(depth).Funcs(
		func(v *string, c randfill.Continue) { *v = text(c) },
		func(v *int32, c randfill.Continue) { *v = int32(c.Intn(6)) - 1 },
		func(v *int64, c randfill.Continue) { *v = c.Int63n(1<<40) - 5 },
		func(v *float64, c randfill.Continue) { *v = float64(c.Intn(100)) / 4 },
		func(v *metav1.TypeMeta, c randfill.Continue) {},
		func(v *metav1.Time, c randfill.Continue) { v.Time = time.Unix(c.Int63n(4e9)-1e9, 0) },
		func(v *metav1.MicroTime, c randfill.Continue) {
			v.Time = time.Unix(c.Int63n(4e9)-1e9, c.Int63n(1e6)*1000)
		},
		func(v *metav1.FieldsV1, c randfill.Continue) { v.Raw = []byte(`{"f:metadata":{"f:labels":{".":{}}}}`) },
		func(v *runtime.RawExtension, c randfill.Continue) { v.Raw = []byte(`{"a":[1,"b",null,{"c":1.5}]}`) },
		func(v *resource.Quantity, c randfill.Continue) {
			*v = resource.MustParse(quantities[c.Intn(len(quantities))])
		},
		func(v *intstr.IntOrString, c randfill.Continue) {
			if c.Bool() {
				*v = intstr.FromInt32(int32(c.Intn(9000)))
			} else {
				*v = intstr.FromString(text(c))
			}
		},
	)
}

type strategicCase struct {
	Kind     [3]string       `json:"kind"`
	Original json.RawMessage `json:"original"`
	Patch    json.RawMessage `json:"patch"`
	Result   json.RawMessage `json:"result,omitempty"`
	Error    string          `json:"error,omitempty"`
}

// strategicCases holds patches that upstream computed between random objects, applied to the object they were
// made for and to another one, and hand-written patches with every directive.
func strategicCases() ([]any, error) {
	cases := []any{}
	apply := func(gvk schema.GroupVersionKind, original, patch []byte) error {
		object, err := scheme().New(gvk)
		if err != nil {
			return err
		}
		c := strategicCase{Kind: kindOfCase(gvk), Original: original, Patch: patch}
		for attempt := range 20 {
			result, err := strategicpatch.StrategicMergePatch(original, patch, object)
			found := string(result)
			if err != nil {
				found = err.Error()
			}
			if attempt > 0 && found != string(c.Result)+c.Error {
				return nil // Go's order of maps decides: no fact
			}
			if err != nil {
				c.Error = found
			} else {
				c.Result = result
			}
		}
		cases = append(cases, c)
		return nil
	}
	for index, gvk := range patchKinds {
		for sample := range 8 {
			texts := [3][]byte{}
			for i := range texts {
				object, err := scheme().New(gvk)
				if err != nil {
					return nil, err
				}
				filler(int64(1000+index*100+sample*10+i), 0.75, 10, "abcd").Fill(object)
				if texts[i], err = json.Marshal(object); err != nil {
					return nil, err
				}
			}
			object, err := scheme().New(gvk)
			if err != nil {
				return nil, err
			}
			patch, err := strategicpatch.CreateTwoWayMergePatch(texts[0], texts[1], object)
			if err != nil || len(patch)+len(texts[0])+len(texts[2]) > 2600 {
				continue
			}
			for _, original := range [][]byte{texts[0], texts[2]} {
				if err := apply(gvk, original, patch); err != nil {
					return nil, err
				}
			}
		}
	}
	for _, c := range writtenPatches {
		if err := apply(c.kind, []byte(c.original), []byte(c.patch)); err != nil {
			return nil, err
		}
	}
	return cases, nil
}

type decodeCase struct {
	Kind   [3]string       `json:"kind"`
	Body   string          `json:"body"`
	Result json.RawMessage `json:"result,omitempty"`
	Error  string          `json:"error,omitempty"`
}

// decodeCases holds what upstream's strict decoder makes of good and bad bodies.
func decodeCases() ([]any, error) {
	strict := jsonserializer.NewSerializerWithOptions(jsonserializer.DefaultMetaFactory, scheme(), scheme(), jsonserializer.SerializerOptions{Strict: true})
	cases := []any{}
	for _, written := range writtenBodies {
		gvk := written.kind
		object, err := scheme().New(gvk)
		if err != nil {
			return nil, err
		}
		c := decodeCase{Kind: kindOfCase(gvk), Body: written.body}
		decoded, _, err := strict.Decode([]byte(written.body), &gvk, object)
		if err != nil {
			c.Error = err.Error()
		} else {
			decoded.GetObjectKind().SetGroupVersionKind(gvk)
			if c.Result, err = json.Marshal(decoded); err != nil {
				return nil, err
			}
		}
		cases = append(cases, c)
	}
	return cases, nil
}

type defaultCase struct {
	Kind   [3]string       `json:"kind"`
	Before json.RawMessage `json:"before"`
	After  json.RawMessage `json:"after"`
}

// defaultCases holds small objects before and after upstream's defaulting.
func defaultCases() ([]any, error) {
	cases := []any{}
	for _, written := range writtenDefaults {
		object, err := scheme().New(written.kind)
		if err != nil {
			return nil, err
		}
		if err := json.Unmarshal([]byte(written.body), object); err != nil {
			return nil, err
		}
		object.GetObjectKind().SetGroupVersionKind(written.kind)
		before, err := json.Marshal(object)
		if err != nil {
			return nil, err
		}
		scheme().Default(object)
		after, err := json.Marshal(object)
		if err != nil {
			return nil, err
		}
		if reflect.DeepEqual(before, after) {
			return nil, fmt.Errorf("nothing defaulted in %s", written.body)
		}
		cases = append(cases, defaultCase{kindOfCase(written.kind), before, after})
	}
	return cases, nil
}
