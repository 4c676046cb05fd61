package chart

import (
	"bytes"
	"embed"
	"errors"
	"fmt"
	"path"
	"slices"
	"strings"
)

// Name is the chart's, and of the directory that it is packed in.
const Name = "damask"

// overlay is what the chart is made of. It has all that "small" has: a test compares both.
const overlay = "ha"

// written is what a person wrote of the chart.
//
//go:embed all:damask
var written embed.FS

// Files are the chart's, by their paths below its directory.
type Files map[string][]byte

// Make makes the chart. deploy is the path of the directory that this package's directory is
// in.
func Make(deploy string, r Release) (Files, error) {
	files, err := r.stamped()
	if err != nil {
		return nil, err
	}
	m := newMaker()
	variants, err := m.build(deploy)
	if err != nil {
		return nil, fmt.Errorf("make chart: %w", err)
	}
	if err := m.write(files, variants); err != nil {
		return nil, fmt.Errorf("make chart: %w", err)
	}
	return files, nil
}

// write adds the templates: a file for each name that objects have, and one with what is in
// ConfigMaps.
func (m *maker) write(files Files, variants []variant) error {
	for _, key := range keys(variants) {
		lines, err := weave(key, variants)
		if err != nil {
			return err
		}
		text, err := m.template(lines)
		if err != nil {
			return fmt.Errorf("%s: %w", m.names[key], err)
		}
		name := path.Join("templates", m.names[key]+".yaml")
		if files[name] == nil {
			files[name] = []byte(origin)
		}
		files[name] = append(files[name], text...)
	}
	files["templates/_contents.tpl"] = m.contents()
	if err := m.complete(); err != nil {
		return err
	}
	return forgotten(files)
}

// origin is at the head of what is made.
const origin = "{{- /* Made of the manifests in deploy/kustomize by deploy/chart. What is to be changed is changed there. */ -}}\n"

// examples are the manifests' own values, which no template may have.
var examples = []string{"localhost", "192.0.2.", "control-1", "control-2", "10.128.0.0", "172.30.0.0", example, "__"}

// forgotten says which of the overlay's examples are still in a template: a value that nobody
// could set. What CustomResourceDefinitions explain by examples is theirs.
func forgotten(files Files) error {
	var found []string
	for name, text := range files {
		if !bytes.HasPrefix(text, []byte(origin)) || bytes.Contains(text, []byte("kind: CustomResourceDefinition")) {
			continue
		}
		for _, word := range examples {
			if strings.Contains(string(text), word) {
				found = append(found, fmt.Sprintf("%s still has %q", name, word))
			}
		}
	}
	if found == nil {
		return nil
	}
	slices.Sort(found)
	return errors.New(strings.Join(found, "; "))
}
