package main

import (
	"encoding/json"
	"fmt"
	"io"
	"os"
	"reflect"
	"sort"
	"strings"

	apiextensionsv1 "k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/v1"
	apiextensionsopenapi "k8s.io/apiextensions-apiserver/pkg/generated/openapi"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/util/intstr"
	aggregatoropenapi "k8s.io/kube-aggregator/pkg/generated/openapi"
	"k8s.io/kube-openapi/pkg/common"
	openapiutil "k8s.io/kube-openapi/pkg/util"
	"k8s.io/kube-openapi/pkg/validation/spec"
	generatedopenapi "k8s.io/kubernetes/pkg/generated/openapi"
)

// special are the Go types that write their own JSON; the table names them instead of their fields.
var special = map[reflect.Type]string{
	reflect.TypeFor[metav1.Time]():                                  "time",
	reflect.TypeFor[metav1.MicroTime]():                             "microtime",
	reflect.TypeFor[metav1.Duration]():                              "duration",
	reflect.TypeFor[metav1.FieldsV1]():                              "fieldsv1",
	reflect.TypeFor[resource.Quantity]():                            "quantity",
	reflect.TypeFor[intstr.IntOrString]():                           "intorstring",
	reflect.TypeFor[runtime.RawExtension]():                         "raw",
	reflect.TypeFor[apiextensionsv1.JSON]():                         "json",
	reflect.TypeFor[apiextensionsv1.JSONSchemaPropsOrArray]():       "schemaorarray",
	reflect.TypeFor[apiextensionsv1.JSONSchemaPropsOrBool]():        "schemaorbool",
	reflect.TypeFor[apiextensionsv1.JSONSchemaPropsOrStringArray](): "schemaorstrings",
}

// wrapped are slices that protobuf carries as a message with one repeated field `items`.
var wrapped = map[string]bool{"AttestationValue": true, "ExtraValue": true, "Verbs": true}

type table struct {
	definitions map[string]common.OpenAPIDefinition
	types       map[reflect.Type]string // Go type -> OpenAPI name
	lines       map[string][]string     // OpenAPI name -> its lines
	defaults    *defaults
}

// metaKinds are the types of meta/v1 that travel on their own.
var metaKinds = []any{
	metav1.APIGroup{}, metav1.APIGroupList{}, metav1.APIResourceList{}, metav1.APIVersions{}, metav1.CreateOptions{},
	metav1.DeleteOptions{}, metav1.GetOptions{}, metav1.LabelSelector{}, metav1.List{}, metav1.ListOptions{},
	metav1.PartialObjectMetadata{}, metav1.PartialObjectMetadataList{}, metav1.PatchOptions{}, metav1.Status{},
	metav1.Table{}, metav1.TableOptions{}, metav1.UpdateOptions{}, metav1.WatchEvent{},
}

func writeTable(out io.Writer) error {
	resources, err := servedResources()
	if err != nil {
		return err
	}
	t := &table{
		definitions: map[string]common.OpenAPIDefinition{},
		types:       map[reflect.Type]string{},
		lines:       map[string][]string{},
	}
	ref := func(path string) spec.Ref { return spec.MustCreateRef("#/" + path) }
	for _, get := range []func(common.ReferenceCallback) map[string]common.OpenAPIDefinition{
		apiextensionsopenapi.GetOpenAPIDefinitions, aggregatoropenapi.GetOpenAPIDefinitions, generatedopenapi.GetOpenAPIDefinitions,
	} {
		for name, definition := range get(ref) {
			t.definitions[name] = definition
		}
	}
	versions := map[schema.GroupVersion]bool{}
	for _, r := range resources {
		versions[r.gv] = true
		versions[r.kind.GroupVersion()] = true
	}
	t.defaults, err = findDefaults(versions)
	if err != nil {
		return err
	}
	kinds := []string{}
	for gv := range versions {
		for kind, goType := range scheme().KnownTypes(gv) {
			if strings.HasPrefix(goType.PkgPath(), "k8s.io/apimachinery/") {
				continue
			}
			if _, err := t.add(goType); err != nil {
				return err
			}
			kinds = append(kinds, fmt.Sprintf("K %s %s %s %s", group(gv), gv.Version, kind, t.types[goType]))
		}
	}
	for _, value := range metaKinds {
		goType := reflect.TypeOf(value)
		if _, err := t.add(goType); err != nil {
			return err
		}
		kinds = append(kinds, fmt.Sprintf("K meta.k8s.io v1 %s %s", goType.Name(), t.types[goType]))
	}
	fmt.Fprintf(out, "V %s\n", kubernetesVersion)
	sort.Strings(kinds)
	for _, line := range kinds {
		fmt.Fprintln(out, line)
	}
	for _, r := range resources {
		writeResource(out, r)
	}
	names := make([]string, 0, len(t.lines))
	for name := range t.lines {
		names = append(names, name)
	}
	sort.Strings(names)
	for _, name := range names {
		for _, line := range t.lines[name] {
			fmt.Fprintln(out, line)
		}
	}
	return nil
}

func group(gv schema.GroupVersion) string {
	if gv.Group == "" {
		return "-"
	}
	return gv.Group
}

func writeResource(out io.Writer, r resourceFacts) {
	scope := "C"
	if r.namespaced {
		scope = "N"
	}
	kindGroup := group(r.kind.GroupVersion())
	attrs := []string{}
	attr := func(name string, values ...string) {
		if len(values) > 0 && values[0] != "" {
			attrs = append(attrs, name+"="+strings.Join(values, ","))
		}
	}
	attr("list", r.listKind)
	attr("singular", r.singular)
	attr("short", r.shortNames...)
	attr("categories", r.categories...)
	line := fmt.Sprintf("R %s %s %s %s %s %s %s %s %s", group(r.gv), r.gv.Version, r.path, kindGroup, r.kind.Version, r.kind.Kind,
		scope, strings.Join(r.verbs, ","), strings.Join(attrs, " "))
	fmt.Fprintln(out, strings.TrimRight(line, " "))
	for _, c := range r.columns {
		fmt.Fprintf(out, "C %s|%s|%s|%d\n", c.Name, c.Type, c.Format, c.Priority)
	}
}

// add registers a struct and everything it refers to; it returns the struct's OpenAPI name.
func (t *table) add(goType reflect.Type) (string, error) {
	if name, ok := t.types[goType]; ok {
		return name, nil
	}
	name := modelName(goType)
	t.types[goType] = name
	definition, documented := t.definitions[name]
	if !documented {
		fmt.Fprintf(os.Stderr, "no OpenAPI definition: %s\n", name)
	}
	head := fmt.Sprintf("T %s %s", name, goType.String())
	if mapType, ok := definition.Schema.Extensions.GetString("x-kubernetes-map-type"); ok {
		head += " mt=" + mapType
	}
	lines := []string{head}
	for i := range goType.NumField() {
		line, err := t.field(goType, goType.Field(i), definition)
		if err != nil {
			return "", fmt.Errorf("%s.%s: %w", goType, goType.Field(i).Name, err)
		}
		if line != "" {
			lines = append(lines, line)
		}
	}
	t.lines[name] = lines
	return name, nil
}

func modelName(goType reflect.Type) string {
	if named, ok := reflect.New(goType).Elem().Interface().(interface{ OpenAPIModelName() string }); ok {
		return named.OpenAPIModelName()
	}
	return openapiutil.ToRESTFriendlyName(goType.PkgPath() + "." + goType.Name())
}

// field writes one line: JSON name, Go name, protobuf number, shape, attributes.
func (t *table) field(parent reflect.Type, field reflect.StructField, definition common.OpenAPIDefinition) (string, error) {
	tag := strings.Split(field.Tag.Get("json"), ",")
	jsonName := tag[0]
	if jsonName == "-" || !field.IsExported() {
		return "", nil
	}
	attrs := []string{}
	inline := field.Anonymous && jsonName == ""
	if inline {
		jsonName = "-"
		attrs = append(attrs, "inline")
	} else if jsonName == "" {
		jsonName = field.Name
	}
	for _, option := range tag[1:] {
		switch option {
		case "omitempty", "omitzero":
			attrs = append(attrs, option)
		case "inline", "":
		default:
			return "", fmt.Errorf("json option %q", option)
		}
	}
	shape, err := t.shape(field.Type)
	if err != nil {
		return "", err
	}
	number := "0"
	if protobuf := field.Tag.Get("protobuf"); protobuf != "" {
		// Only the number: upstream has tags with a wrong wire type (ListMeta.remainingItemCount) or a
		// wrong label (ISCSIVolumeSource.portals), and the shape implies the true ones.
		number = strings.Split(protobuf, ",")[1]
	}
	if goName := namedScalar(field.Type); goName != "" {
		attrs = append(attrs, "g="+goName)
	}
	if !inline {
		schemaAttrs, err := t.schemaAttrs(parent, field, jsonName, definition)
		if err != nil {
			return "", err
		}
		attrs = append(attrs, schemaAttrs...)
	}
	line := fmt.Sprintf("F %s %s %s %s", jsonName, field.Name, number, shape)
	if len(attrs) > 0 {
		line += " " + strings.Join(attrs, " ")
	}
	return line, nil
}

// schemaAttrs are the facts that only the generated OpenAPI definition and defaulting know.
func (t *table) schemaAttrs(parent reflect.Type, field reflect.StructField, jsonName string, definition common.OpenAPIDefinition) ([]string, error) {
	attrs := []string{}
	for _, required := range definition.Schema.Required {
		if required == jsonName {
			attrs = append(attrs, "required")
		}
	}
	property := definition.Schema.Properties[jsonName]
	list := func(short, extension string) {
		if values, ok := property.Extensions.GetStringSlice(extension); ok {
			attrs = append(attrs, short+"="+strings.Join(values, ","))
		} else if value, ok := property.Extensions.GetString(extension); ok {
			attrs = append(attrs, short+"="+value)
		}
	}
	list("lt", "x-kubernetes-list-type")
	list("lk", "x-kubernetes-list-map-keys")
	list("mt", "x-kubernetes-map-type")
	list("ps", "x-kubernetes-patch-strategy")
	list("pk", "x-kubernetes-patch-merge-key")
	if field.Tag.Get("patchStrategy") != property.Extensions["x-kubernetes-patch-strategy"] && field.Tag.Get("patchStrategy") != "" && len(definition.Schema.Properties) > 0 {
		return nil, fmt.Errorf("patch strategy of tag and OpenAPI differ")
	}
	if len(property.Enum) > 0 {
		values := make([]string, 0, len(property.Enum))
		for _, value := range property.Enum {
			values = append(values, fmt.Sprint(value))
		}
		attrs = append(attrs, "enum="+strings.Join(values, ","))
	}
	if format := property.Format; format != "" && !derivedFormat[format] {
		attrs = append(attrs, "format="+format)
	}
	if property.Default != nil && !(isEmpty(property.Default) && impliedDefault(field)) {
		text, err := json.Marshal(property.Default)
		if err != nil {
			return nil, err
		}
		attrs = append(attrs, "d="+string(text))
	} else if value, ok := t.defaults.of(parent, field.Name); ok {
		attrs = append(attrs, "D="+value)
	}
	for _, attr := range attrs {
		if strings.ContainsAny(attr, " \n") {
			return nil, fmt.Errorf("attribute with a space: %q", attr)
		}
	}
	return attrs, nil
}

// impliedDefault tells whether OpenAPI's default says no more than that Go always writes the field.
func impliedDefault(field reflect.StructField) bool {
	switch field.Type.Kind() {
	case reflect.Struct:
		return true
	case reflect.Pointer:
		return false
	}
	return !strings.Contains(field.Tag.Get("json"), "omitempty")
}

// derivedFormat are formats that follow from the shape.
var derivedFormat = map[string]bool{"int32": true, "int64": true, "double": true, "byte": true, "date-time": true, "int-or-string": true}

func isEmpty(value any) bool {
	switch v := value.(type) {
	case map[string]interface{}:
		return len(v) == 0
	case []interface{}:
		return len(v) == 0
	}
	return reflect.ValueOf(value).IsZero()
}

// shape is the grammar of the table's type column: `*` pointer, `[]` list, `{}` map with string keys,
// `<>` a list that protobuf wraps in a message, `@` a type of the table, else a scalar or a special type.
func (t *table) shape(goType reflect.Type) (string, error) {
	if name, ok := special[goType]; ok {
		return name, nil
	}
	if _, ok := reflect.New(goType).Interface().(json.Unmarshaler); ok && goType.Kind() != reflect.Pointer {
		return "", fmt.Errorf("type %s has its own JSON and is not known", goType)
	}
	nested := func(prefix string) (string, error) {
		inner, err := t.shape(goType.Elem())
		return prefix + inner, err
	}
	switch goType.Kind() {
	case reflect.String:
		return "string", nil
	case reflect.Bool:
		return "bool", nil
	case reflect.Int32, reflect.Int64, reflect.Float64:
		return goType.Kind().String(), nil
	case reflect.Int:
		return "int64", nil
	case reflect.Interface:
		return "any", nil
	case reflect.Pointer:
		return nested("*")
	case reflect.Slice:
		if goType.Elem().Kind() == reflect.Uint8 {
			return "bytes", nil
		}
		if wrapped[goType.Name()] {
			return nested("<>")
		}
		return nested("[]")
	case reflect.Map:
		if goType.Key().Kind() != reflect.String {
			return "", fmt.Errorf("map key %s", goType.Key())
		}
		return nested("{}")
	case reflect.Struct:
		name, err := t.add(goType)
		return "@" + name, err
	}
	return "", fmt.Errorf("kind %s", goType.Kind())
}

// namedScalar is how Go's errors call a type whose name its shape doesn't tell.
func namedScalar(goType reflect.Type) string {
	for goType.Kind() == reflect.Pointer {
		goType = goType.Elem()
	}
	if _, ok := special[goType]; ok || goType.Kind() == reflect.Struct || goType.Kind() == reflect.Interface {
		return ""
	}
	elem := goType
	for elem.Name() == "" && (elem.Kind() == reflect.Slice || elem.Kind() == reflect.Map || elem.Kind() == reflect.Pointer) {
		if elem.Kind() == reflect.Map && elem.Key().Name() != "string" {
			return goType.String()
		}
		elem = elem.Elem()
	}
	if elem.Kind() == reflect.Struct || elem.PkgPath() == "" {
		return ""
	}
	return goType.String()
}
