package configfile

import (
	"encoding"
	"fmt"
	"reflect"
	"strconv"
	"strings"
	"time"

	"go.yaml.in/yaml/v3"
)

// decoder fills a value from a YAML tree and goes on after a problem, which
// yaml's own decoder does not do for most of them.
type decoder struct {
	lines    map[string]int  // field path to the line that it is written on
	broken   map[string]bool // paths that could not be read
	problems []Problem
}

var durationType = reflect.TypeFor[time.Duration]()

// decode reads node into v. A null leaves v as it is.
func (d *decoder) decode(node *yaml.Node, v reflect.Value, path string, depth int) {
	switch {
	case depth > maxDepth:
		d.fail(node, path, "nested deeper than %d levels", maxDepth)
		return
	case node.Kind == yaml.AliasNode || node.Anchor != "":
		d.fail(node, path, "anchors and aliases are not supported")
		return
	case node.Kind == yaml.ScalarNode && node.ShortTag() == "!!null":
		return
	}
	if v.Kind() == reflect.Pointer {
		v.Set(reflect.New(v.Type().Elem()))
		d.decode(node, v.Elem(), path, depth+1)
		return
	}
	if text, ok := v.Addr().Interface().(encoding.TextUnmarshaler); ok {
		d.decodeText(node, text, path)
		return
	}
	if own, ok := v.Addr().Interface().(yaml.Unmarshaler); ok {
		if err := own.UnmarshalYAML(node); err != nil {
			d.fail(node, path, "%v", err)
		}
		return
	}
	switch v.Kind() {
	case reflect.Struct:
		d.decodeStruct(node, v, path, depth)
	case reflect.Slice:
		d.decodeSlice(node, v, path, depth)
	case reflect.Map:
		d.decodeMap(node, v, path, depth)
	default:
		d.decodeScalar(node, v, path)
	}
}

func (d *decoder) decodeStruct(node *yaml.Node, v reflect.Value, path string, depth int) {
	if node.Kind != yaml.MappingNode {
		d.fail(node, path, "expected fields, found %s", describe(node))
		return
	}
	fields := Fields(v.Type())
	d.eachKey(node, path, func(key string, keyNode, value *yaml.Node, at string) {
		for _, f := range fields {
			if f.Name == key {
				d.decode(value, v.FieldByIndex(f.Index), at, depth+1)
				return
			}
		}
		d.fail(keyNode, at, "unknown field; known here: %s", strings.Join(names(fields), ", "))
	})
}

func (d *decoder) decodeMap(node *yaml.Node, v reflect.Value, path string, depth int) {
	if v.Type().Key().Kind() != reflect.String {
		panic(fmt.Sprintf("configfile: %s: map keys must be strings", v.Type()))
	}
	if node.Kind != yaml.MappingNode {
		d.fail(node, path, "expected fields, found %s", describe(node))
		return
	}
	v.Set(reflect.MakeMap(v.Type()))
	d.eachKey(node, path, func(key string, _, value *yaml.Node, at string) {
		elem := reflect.New(v.Type().Elem()).Elem()
		d.decode(value, elem, at, depth+1)
		v.SetMapIndex(reflect.ValueOf(key).Convert(v.Type().Key()), elem)
	})
}

// eachKey visits the keys of a mapping, once each, and notes their lines.
func (d *decoder) eachKey(node *yaml.Node, path string, visit func(key string, keyNode, value *yaml.Node, at string)) {
	first := map[string]int{}
	for i := 0; i+1 < len(node.Content); i += 2 {
		keyNode, value := node.Content[i], node.Content[i+1]
		if keyNode.Kind != yaml.ScalarNode || keyNode.Anchor != "" {
			d.fail(keyNode, path, "a field's name must be plain text")
			continue
		}
		key := keyNode.Value
		at := join(path, key)
		if line, ok := first[key]; ok {
			d.fail(keyNode, at, "given twice; first on line %d", line)
			continue
		}
		first[key] = keyNode.Line
		d.lines[at] = keyNode.Line
		visit(key, keyNode, value, at)
	}
}

func (d *decoder) decodeSlice(node *yaml.Node, v reflect.Value, path string, depth int) {
	if node.Kind != yaml.SequenceNode {
		d.fail(node, path, "expected a list, found %s", describe(node))
		return
	}
	v.Set(reflect.MakeSlice(v.Type(), len(node.Content), len(node.Content)))
	for i, item := range node.Content {
		at := fmt.Sprintf("%s[%d]", path, i)
		d.lines[at] = item.Line
		d.decode(item, v.Index(i), at, depth+1)
	}
}

func (d *decoder) decodeText(node *yaml.Node, text encoding.TextUnmarshaler, path string) {
	if node.Kind != yaml.ScalarNode {
		d.fail(node, path, "expected text, found %s", describe(node))
		return
	}
	if err := text.UnmarshalText([]byte(node.Value)); err != nil {
		d.fail(node, path, "%q: %v", node.Value, err)
	}
}

func (d *decoder) decodeScalar(node *yaml.Node, v reflect.Value, path string) {
	want, err := setScalar(node, v)
	switch {
	case want != "":
		d.fail(node, path, "expected %s, found %s", want, describe(node))
	case err != nil:
		d.fail(node, path, "%v", err)
	}
}

// setScalar answers what was expected when node is of another kind, or why
// its text does not fit.
func setScalar(node *yaml.Node, v reflect.Value) (want string, err error) {
	tag := ""
	if node.Kind == yaml.ScalarNode {
		tag = node.ShortTag()
	}
	switch kind := v.Kind(); {
	case v.Type() == durationType:
		if tag != "!!str" {
			return `a duration such as "30s"`, nil
		}
		duration, err := time.ParseDuration(node.Value)
		if err != nil {
			return `a duration such as "30s"`, nil
		}
		v.SetInt(int64(duration))
	case kind == reflect.String:
		if tag != "!!str" {
			return "text (put it in quotes)", nil
		}
		v.SetString(node.Value)
	case kind == reflect.Bool:
		if tag != "!!bool" {
			return "true or false", nil
		}
		return "", node.Decode(v.Addr().Interface())
	case v.CanInt():
		if tag != "!!int" {
			return "a whole number", nil
		}
		n, err := strconv.ParseInt(node.Value, 0, v.Type().Bits())
		if err != nil {
			return "", fmt.Errorf("%s is out of range", node.Value)
		}
		v.SetInt(n)
	case v.CanUint():
		if tag != "!!int" {
			return "a whole number", nil
		}
		n, err := strconv.ParseUint(node.Value, 0, v.Type().Bits())
		if err != nil {
			return "", fmt.Errorf("%s is out of range", node.Value)
		}
		v.SetUint(n)
	case v.CanFloat():
		if tag != "!!int" && tag != "!!float" {
			return "a number", nil
		}
		return "", node.Decode(v.Addr().Interface())
	default:
		panic(fmt.Sprintf("configfile: unsupported type %s", v.Type()))
	}
	return "", nil
}

// fail notes that path could not be read from node.
func (d *decoder) fail(node *yaml.Node, path, format string, args ...any) {
	d.broken[path] = true
	d.add(node.Line, path, fmt.Sprintf(format, args...))
}

// describe says what a node is, in the words of a reader of the file.
func describe(node *yaml.Node) string {
	switch node.Kind {
	case yaml.MappingNode:
		return "fields"
	case yaml.SequenceNode:
		return "a list"
	}
	switch node.ShortTag() {
	case "!!int", "!!float":
		return "the number " + node.Value
	case "!!str":
		return strconv.Quote(node.Value)
	default:
		return node.Value
	}
}
