package main

import (
	"encoding/json"
	"fmt"
	"os"
	"reflect"
	"sort"

	"k8s.io/apimachinery/pkg/runtime/schema"
)

// defaults are the values that upstream's defaulting functions put into a field that is absent.
type defaults struct {
	seen map[fieldKey]map[string]int // JSON of the value, or unset -> how often
}

type fieldKey struct {
	parent reflect.Type
	name   string
}

const unset = "(unset)"

// dependent are defaults that hang on a sibling's value (an image's tag, a type, a port): code must
// decide those, so the table leaves them out. The key is Type.Field.
var dependent = map[string]bool{
	"v1.Container.ImagePullPolicy":                          true, // the image's tag
	"v1.EphemeralContainerCommon.ImagePullPolicy":           true,
	"v1.ImageVolumeSource.PullPolicy":                       true,
	"v1.DaemonSetUpdateStrategy.RollingUpdate":              true, // type
	"v1.DeploymentStrategy.RollingUpdate":                   true,
	"v1.StatefulSetUpdateStrategy.RollingUpdate":            true,
	"v1.ServiceSpec.InternalTrafficPolicy":                  true,
	"v1.VolumeSource.EmptyDir":                              true, // no other source
	"v1.DeviceSubRequest.Count":                             true, // allocationMode
	"v1.ExactDeviceRequest.Count":                           true,
	"v1.DeviceTaint.TimeAdded":                              true, // now
	"v1.NetworkPolicySpec.PolicyTypes":                      true, // egress
	"v1.JobSpec.BackoffLimit":                               true, // only in a Job, not in templates of one
	"v1.JobSpec.CompletionMode":                             true,
	"v1.JobSpec.Completions":                                true,
	"v1.JobSpec.ManualSelector":                             true,
	"v1.JobSpec.Parallelism":                                true,
	"v1.JobSpec.PodReplacementPolicy":                       true,
	"v1.JobSpec.Suspend":                                    true,
	"v1.PodSpec.EnableServiceLinks":                         true, // only in a Pod
	"v1.PersistentVolumeSpec.VolumeMode":                    true, // only in a PersistentVolume
	"v1.PersistentVolumeSpec.PersistentVolumeReclaimPolicy": true,
	"v2.HPAScalingRules.StabilizationWindowSeconds":         true, // scaling up
	"v1.ConfigMap.Data":                                     true, // an empty map, which JSON leaves out
}

// findDefaults defaults an empty object of every kind twice: once with the optional structs absent and once
// with them present but empty. Lists hold one empty element in both. A field's default is what appears
// wherever the field was empty; a field that was filled only in some places is reported and left out.
func findDefaults(versions map[schema.GroupVersion]bool) (*defaults, error) {
	d := &defaults{seen: map[fieldKey]map[string]int{}}
	for gv := range versions {
		for kind, goType := range scheme().KnownTypes(gv) {
			if _, listed := goType.FieldByName("Items"); listed {
				continue
			}
			for _, populate := range []bool{false, true} {
				object, err := scheme().New(gv.WithKind(kind))
				if err != nil {
					return nil, err
				}
				fill(reflect.ValueOf(object).Elem(), populate, nil)
				before := object.DeepCopyObject()
				scheme().Default(object)
				if err := d.compare(reflect.ValueOf(before).Elem(), reflect.ValueOf(object).Elem()); err != nil {
					return nil, err
				}
			}
		}
	}
	d.report()
	return d, nil
}

func (d *defaults) of(parent reflect.Type, name string) (string, bool) {
	if dependent[parent.String()+"."+name] {
		return "", false
	}
	values := d.seen[fieldKey{parent, name}]
	if len(values) != 1 {
		return "", false
	}
	for value := range values {
		return value, value != unset
	}
	return "", false
}

// report names what could not be decided, for the person who updates `dependent`.
func (d *defaults) report() {
	lines := []string{}
	for key, values := range d.seen {
		if len(values) > 1 && !dependent[key.parent.String()+"."+key.name] {
			lines = append(lines, fmt.Sprintf("default depends on the place: %s.%s %v", key.parent, key.name, values))
		}
	}
	sort.Strings(lines)
	for _, line := range lines {
		fmt.Fprintln(os.Stderr, line)
	}
}

func fill(v reflect.Value, populate bool, stack []reflect.Type) {
	if _, ok := special[v.Type()]; ok {
		return
	}
	switch v.Kind() {
	case reflect.Struct:
		for _, outer := range stack {
			if outer == v.Type() {
				return
			}
		}
		stack = append(stack[:len(stack):len(stack)], v.Type())
		for i := range v.NumField() {
			if v.Type().Field(i).IsExported() {
				fill(v.Field(i), populate, stack)
			}
		}
	case reflect.Pointer:
		if elem := v.Type().Elem(); populate && elem.Kind() == reflect.Struct && !recursive(elem, stack) {
			if _, ok := special[elem]; !ok {
				v.Set(reflect.New(elem))
				fill(v.Elem(), populate, stack)
			}
		}
	case reflect.Slice:
		if elem := v.Type().Elem(); elem.Kind() == reflect.Struct && !recursive(elem, stack) {
			v.Set(reflect.MakeSlice(v.Type(), 1, 1))
			fill(v.Index(0), populate, stack)
		}
	}
}

func recursive(elem reflect.Type, stack []reflect.Type) bool {
	for _, outer := range stack {
		if outer == elem {
			return true
		}
	}
	return false
}

// compare records for every field that was empty before what it is after.
func (d *defaults) compare(before, after reflect.Value) error {
	if _, ok := special[before.Type()]; ok {
		return nil
	}
	switch before.Kind() {
	case reflect.Struct:
		for i := range before.NumField() {
			field := before.Type().Field(i)
			if !field.IsExported() {
				continue
			}
			b, a := before.Field(i), after.Field(i)
			_, isSpecial := special[b.Type()]
			if b.Kind() == reflect.Struct && !isSpecial {
				if err := d.compare(b, a); err != nil {
					return err
				}
				continue
			}
			if !b.IsZero() {
				if err := d.compare(b, a); err != nil {
					return err
				}
				continue
			}
			text := unset
			if !a.IsZero() {
				value, err := json.Marshal(a.Interface())
				if err != nil {
					return err
				}
				text = string(value)
			}
			key := fieldKey{before.Type(), field.Name}
			if d.seen[key] == nil {
				d.seen[key] = map[string]int{}
			}
			d.seen[key][text]++
		}
	case reflect.Pointer:
		if !before.IsNil() && !after.IsNil() {
			return d.compare(before.Elem(), after.Elem())
		}
	case reflect.Slice:
		for i := 0; i < before.Len() && i < after.Len(); i++ {
			if err := d.compare(before.Index(i), after.Index(i)); err != nil {
				return err
			}
		}
	}
	return nil
}
