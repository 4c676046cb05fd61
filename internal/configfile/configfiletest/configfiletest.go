// Package configfiletest proves that a reference configuration file documents
// a struct whole.
package configfiletest

import (
	"fmt"
	"os"
	"reflect"
	"strings"
	"testing"

	"go.yaml.in/yaml/v3"

	"github.com/damask-sdn/damask/internal/configfile"
)

// isLive is what the comment of a field says that counts while the program runs, and of no
// other.
const isLive = "(live)"

// Documented fails the test when the reference file at path leaves out a
// field of cfg, has one without a comment on it (above it, or on its
// line), or does not say which are live. cfg is a pointer to the configuration struct. In a list of structs
// the first item stands for all.
func Documented(t testing.TB, path string, cfg any) {
	t.Helper()
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	for _, problem := range undocumented(data, reflect.TypeOf(cfg).Elem()) {
		t.Errorf("%s: %s", path, problem)
	}
}

func undocumented(data []byte, t reflect.Type) []string {
	var doc yaml.Node
	if err := yaml.Unmarshal(data, &doc); err != nil {
		return []string{err.Error()}
	}
	if len(doc.Content) != 1 {
		return []string{"the file is empty"}
	}
	return missing(doc.Content[0], t, "")
}

func missing(node *yaml.Node, t reflect.Type, path string) []string {
	for t.Kind() == reflect.Pointer {
		t = t.Elem()
	}
	switch {
	case t.Kind() == reflect.Slice && element(t).Kind() == reflect.Struct && !isText(element(t)):
		if node.Kind != yaml.SequenceNode || len(node.Content) == 0 {
			return []string{path + ": needs an item that shows its fields"}
		}
		return missing(node.Content[0], element(t), path+"[0]")
	case t.Kind() != reflect.Struct || isText(t):
		return nil
	}
	var problems []string
	for _, f := range configfile.Fields(t) {
		at := path + "." + f.Name
		if path == "" {
			at = f.Name
		}
		key, value := find(node, f.Name)
		if key == nil {
			problems = append(problems, at+": is not in the file")
			continue
		}
		comment := key.HeadComment + key.LineComment + value.HeadComment + value.LineComment
		if comment == "" {
			problems = append(problems, fmt.Sprintf("line %d: %s: has no comment", key.Line, at))
		}
		// The head of the file, which says what the mark means, is the first field's.
		if paragraphs := strings.Split(comment, "\n\n"); strings.Contains(paragraphs[len(paragraphs)-1], isLive) != f.Live {
			problems = append(problems, fmt.Sprintf("line %d: %s: the mark %s is on it, or not: in the code it is %t", key.Line, at, isLive, f.Live))
		}
		problems = append(problems, missing(value, f.Type, at)...)
	}
	return problems
}

// element answers a list's type of item, without pointers.
func element(t reflect.Type) reflect.Type {
	e := t.Elem()
	for e.Kind() == reflect.Pointer {
		e = e.Elem()
	}
	return e
}

// isText says whether a struct is written as one word, like netip.Prefix.
func isText(t reflect.Type) bool {
	_, ok := reflect.PointerTo(t).MethodByName("UnmarshalText")
	return ok
}

func find(node *yaml.Node, name string) (key, value *yaml.Node) {
	for i := 0; i+1 < len(node.Content); i += 2 {
		if node.Content[i].Value == name {
			return node.Content[i], node.Content[i+1]
		}
	}
	return nil, nil
}
