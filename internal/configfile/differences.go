package configfile

import (
	"encoding"
	"reflect"

	"go.yaml.in/yaml/v3"
)

var (
	textType = reflect.TypeFor[encoding.TextUnmarshaler]()
	yamlType = reflect.TypeFor[yaml.Unmarshaler]()
)

// Differences answers the fields in which two configurations of one type differ, as paths of
// a file, in order. A slice or a map is one field.
func Differences[T any](a, b *T) []string {
	return differences(reflect.ValueOf(a).Elem(), reflect.ValueOf(b).Elem(), "")
}

// Live answers the fields of a configuration of a type that are live, as paths of a file, in
// order.
func Live(t reflect.Type) []string { return live(t, "") }

func live(t reflect.Type, path string) (all []string) {
	pointer := reflect.PointerTo(t)
	if t.Kind() != reflect.Struct || pointer.Implements(textType) || pointer.Implements(yamlType) {
		return nil
	}
	for _, f := range Fields(t) {
		at := join(path, f.Name)
		if f.Live {
			all = append(all, at)
		}
		all = append(all, live(f.Type, at)...)
	}
	return all
}

func differences(a, b reflect.Value, path string) []string {
	pointer := reflect.PointerTo(a.Type())
	if a.Kind() != reflect.Struct || pointer.Implements(textType) || pointer.Implements(yamlType) {
		if reflect.DeepEqual(a.Interface(), b.Interface()) {
			return nil
		}
		return []string{path}
	}
	var all []string
	for _, f := range Fields(a.Type()) {
		all = append(all, differences(a.FieldByIndex(f.Index), b.FieldByIndex(f.Index), join(path, f.Name))...)
	}
	return all
}
