package configfile

import (
	"fmt"
	"reflect"
	"strings"
)

// Field is a struct field as a file names it.
type Field struct {
	// Name is the key in the file.
	Name string
	// Index finds the field from the struct (reflect.Value.FieldByIndex).
	Index []int
	// Type is the field's Go type.
	Type reflect.Type
	// Live says that a change counts in a program that runs: the field has the tag
	// live:"true". Everything else counts from the next start on.
	Live bool
}

// Fields answers the fields of a struct type in order, with those of inlined
// structs in their place. A field with the tag "-" is left out. It panics
// when an exported field has no yaml tag: a field's name in a file is a
// promise, and must not follow from its name in Go.
func Fields(t reflect.Type) []Field {
	var fields []Field
	for i := range t.NumField() {
		f := t.Field(i)
		name, option, _ := strings.Cut(f.Tag.Get("yaml"), ",")
		switch {
		case name == "-" || (!f.IsExported() && !f.Anonymous):
		case option == "inline":
			for _, inner := range Fields(f.Type) {
				inner.Index = append([]int{i}, inner.Index...)
				fields = append(fields, inner)
			}
		case name == "":
			panic(fmt.Sprintf("configfile: %s.%s has no yaml tag", t, f.Name))
		default:
			fields = append(fields, Field{Name: name, Index: f.Index, Type: f.Type, Live: f.Tag.Get("live") == "true"})
		}
	}
	return fields
}

func names(fields []Field) []string {
	list := make([]string, len(fields))
	for i, f := range fields {
		list[i] = f.Name
	}
	return list
}
