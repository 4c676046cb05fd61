// Package policyfile reads files of network policies.
//
// It owns how several policies are in one file: YAML documents, or JSON. It
// promises to hand on what each says, unread: what a policy may say, the tenancy
// service knows.
package policyfile

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"

	"go.yaml.in/yaml/v3"
)

// Load reads the manifests of a file; "-" is the standard input.
func Load(path string) ([]string, error) {
	data, err := read(path)
	if err != nil {
		return nil, fmt.Errorf("read policies: %w", err)
	}
	manifests, err := Split(data)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	return manifests, nil
}

func read(path string) ([]byte, error) {
	if path == "-" {
		return io.ReadAll(os.Stdin)
	}
	return os.ReadFile(path)
}

// Split answers the manifests of a text, at least one. Empty documents are none.
func Split(data []byte) ([]string, error) {
	var manifests []string
	decoder := yaml.NewDecoder(bytes.NewReader(data))
	for {
		var document yaml.Node
		err := decoder.Decode(&document)
		switch {
		case errors.Is(err, io.EOF) && len(manifests) == 0:
			return nil, errors.New("there is no policy in it")
		case errors.Is(err, io.EOF):
			return manifests, nil
		case err != nil:
			return nil, fmt.Errorf("it is not YAML or JSON: %w", err)
		}
		if len(document.Content) == 1 && document.Content[0].Tag == "!!null" {
			continue
		}
		manifest, err := text(&document)
		if err != nil {
			return nil, err
		}
		manifests = append(manifests, manifest)
	}
}

// Manifest is a policy within another file.
type Manifest string

// UnmarshalYAML takes what is there as it is.
func (m *Manifest) UnmarshalYAML(node *yaml.Node) error {
	manifest, err := text(node)
	*m = Manifest(manifest)
	return err
}

// text is the manifest that a part of a file is.
func text(node *yaml.Node) (string, error) {
	text, err := yaml.Marshal(node)
	if err != nil {
		return "", fmt.Errorf("write the policy anew: %w", err)
	}
	return string(text), nil
}

// Head is what tells a policy from others.
type Head struct {
	Kind     string `yaml:"kind"`
	Metadata struct {
		Namespace string `yaml:"namespace"`
		Name      string `yaml:"name"`
	} `yaml:"metadata"`
}

// ReadHead reads which policy a manifest is.
func ReadHead(manifest string) (Head, error) {
	var h Head
	if err := yaml.Unmarshal([]byte(manifest), &h); err != nil {
		return h, fmt.Errorf("read kind, namespace and name: %w", err)
	}
	return h, nil
}
