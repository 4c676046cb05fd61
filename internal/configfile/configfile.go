// Package configfile reads a program's YAML configuration file strictly.
//
// It owns the way from bytes to a filled struct. It promises that a file is
// either accepted whole or refused with every problem that it has: unknown
// fields, fields given twice, wrong types, and what the program's own check
// adds, each as "FILE:LINE: path: reason", in order of lines. It never reads
// the environment, never guesses, and never leaves part of a file unread.
//
// Struct fields are named by their yaml tag. Supported are strings, booleans,
// integers, floats, time.Duration ("30s"), types with UnmarshalYAML, types with
// UnmarshalText (such as netip.Prefix), and pointers, slices, string-keyed maps
// and structs of them;
// `yaml:",inline"` places the fields of an embedded struct in its parent.
// Anchors, aliases, merge keys and several documents in a file are refused.
//
// Used by every daemon and by the lab's topology.
package configfile

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"reflect"
	"regexp"
	"strconv"
	"strings"

	"go.yaml.in/yaml/v3"
)

// maxSize bounds a file, in bytes; a real one has a few kilobytes. The bound
// keeps a wrong path (a device, a log) from filling the memory.
const maxSize = 4 << 20

// maxDepth bounds how deep values nest; a real file has less than ten levels.
const maxDepth = 64

// Load reads the file at path into cfg and then calls check, which adds what
// is wrong with the values. Fields that the file leaves out keep the value
// that cfg had. The error is an *Error when the content is at fault. A nil
// check checks nothing more.
func Load[T any](path string, cfg *T, check func(*Report)) error {
	data, err := read(path)
	if err != nil {
		return fmt.Errorf("read configuration: %w", err)
	}
	return Parse(path, data, cfg, check)
}

// Parse is Load for content that is already in memory; name stands for the
// file in the problems.
func Parse[T any](name string, data []byte, cfg *T, check func(*Report)) error {
	doc, problem := parseDocument(data)
	if problem != nil {
		return &Error{File: name, Problems: []Problem{*problem}}
	}
	d := &decoder{lines: map[string]int{"": 1}, broken: map[string]bool{}}
	if doc != nil {
		d.decode(doc, reflect.ValueOf(cfg).Elem(), "", 0)
	}
	if check != nil {
		check(&Report{decoder: d})
	}
	return d.err(name)
}

func read(path string) ([]byte, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer func() { _ = f.Close() }()
	data, err := io.ReadAll(io.LimitReader(f, maxSize+1))
	if err != nil {
		return nil, err
	}
	if len(data) > maxSize {
		return nil, fmt.Errorf("%s is larger than %d bytes", path, maxSize)
	}
	return data, nil
}

// yamlLine finds the line in the YAML parser's own messages; it has no other
// way to tell.
var yamlLine = regexp.MustCompile(`^(?:yaml: )?(?:line (\d+): )?((?s).*)$`)

// parseDocument answers the value of the only document, or nil when there is
// nothing but comments.
func parseDocument(data []byte) (*yaml.Node, *Problem) {
	dec := yaml.NewDecoder(bytes.NewReader(data))
	var doc yaml.Node
	switch err := dec.Decode(&doc); {
	case errors.Is(err, io.EOF):
		return nil, nil
	case err != nil:
		return nil, syntaxProblem(err)
	}
	var second yaml.Node
	switch err := dec.Decode(&second); {
	case errors.Is(err, io.EOF):
	case err != nil:
		return nil, syntaxProblem(err)
	default:
		return nil, &Problem{Line: second.Line, Reason: "a second document; a file has one"}
	}
	if doc.Kind != yaml.DocumentNode || len(doc.Content) != 1 {
		return nil, nil
	}
	return doc.Content[0], nil
}

func syntaxProblem(err error) *Problem {
	m := yamlLine.FindStringSubmatch(err.Error())
	line, convErr := strconv.Atoi(m[1])
	if convErr != nil {
		line = 1
	}
	return &Problem{Line: line, Reason: "not YAML: " + strings.TrimSpace(m[2])}
}
