package chart

import (
	"bufio"
	"bytes"
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"
	"sync"
	"testing"

	helm "helm.sh/helm/v3/pkg/chart"
	"helm.sh/helm/v3/pkg/chart/loader"
	"helm.sh/helm/v3/pkg/chartutil"
	"helm.sh/helm/v3/pkg/engine"
	"k8s.io/apimachinery/pkg/util/yaml"
	sigsyaml "sigs.k8s.io/yaml"

	"github.com/damask-sdn/damask/deploy/kustomize"
)

// dev is what the manifests' images are called.
var dev = Release{Version: "v0.0.1", Registry: "localhost", Tag: "dev"}

// made is the chart of the manifests as they are.
var made = sync.OnceValues(func() (Files, error) { return Make("..", dev) })

func chartOf(t testing.TB) Files {
	t.Helper()
	files, err := made()
	if err != nil {
		t.Fatal(err)
	}
	return files
}

// load reads a chart as Helm does.
func load(t testing.TB, files Files) *helm.Chart {
	t.Helper()
	var list []*loader.BufferedFile
	for _, name := range slices.Sorted(maps.Keys(files)) {
		list = append(list, &loader.BufferedFile{Name: name, Data: files[name]})
	}
	loaded, err := loader.LoadFiles(list)
	if err != nil {
		t.Fatal(err)
	}
	if err := loaded.Validate(); err != nil {
		t.Fatal(err)
	}
	return loaded
}

// objects are objects by what they are.
type objects map[identity]map[string]any

// render renders the chart as an install in kube-system does.
func render(t testing.TB, values string) (objects, error) {
	t.Helper()
	return renderIn(t, "kube-system", values)
}

// renderTexts answers what each template is.
func renderTexts(t testing.TB, namespace, values string) (map[string]string, error) {
	t.Helper()
	given, err := chartutil.ReadValues([]byte(values))
	if err != nil {
		t.Fatal(err)
	}
	loaded := load(t, chartOf(t))
	options := chartutil.ReleaseOptions{Name: Name, Namespace: namespace, Revision: 1, IsInstall: true}
	all, err := chartutil.ToRenderValues(loaded, given, options, chartutil.DefaultCapabilities)
	if err != nil {
		return nil, err
	}
	return engine.Render(loaded, all)
}

func renderIn(t testing.TB, namespace, values string) (objects, error) {
	t.Helper()
	texts, err := renderTexts(t, namespace, values)
	if err != nil {
		return nil, err
	}
	found := objects{}
	for name, text := range texts {
		if !strings.HasSuffix(name, ".yaml") {
			continue
		}
		documents := yaml.NewYAMLReader(bufio.NewReader(strings.NewReader(text)))
		for {
			document, err := documents.Read()
			if err == io.EOF {
				break
			}
			if err != nil {
				t.Fatalf("%s: %v", name, err)
			}
			found.add(t, document)
		}
	}
	return found, nil
}

// add adds an object in YAML, if it is one.
func (o objects) add(t testing.TB, text []byte) {
	t.Helper()
	var object map[string]any
	if err := sigsyaml.UnmarshalStrict(text, &object); err != nil {
		t.Fatalf("%v\n%s", err, text)
	}
	if object == nil {
		return
	}
	key := identify(object)
	if o[key] != nil {
		t.Fatalf("%s is there twice", key)
	}
	o[key] = object
}

// kustomized are the objects of an overlay.
func kustomized(t testing.TB, overlay string, changes ...string) objects {
	t.Helper()
	texts, err := kustomize.Build("..", overlay, changes...)
	if err != nil {
		t.Fatal(err)
	}
	found := objects{}
	for _, text := range texts {
		found.add(t, text)
	}
	return found
}

// differences says what differs, an object a line.
func differences(got, want objects) string {
	var out bytes.Buffer
	all := maps.Clone(got)
	maps.Copy(all, want)
	for key := range all {
		g, _ := sigsyaml.Marshal(got[key])
		w, _ := sigsyaml.Marshal(want[key])
		if !bytes.Equal(g, w) {
			fmt.Fprintf(&out, "%s: the chart has\n%s\nand the manifests\n%s\n", key, g, w)
		}
	}
	return out.String()
}
