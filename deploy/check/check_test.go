package check

import (
	"bytes"
	"fmt"
	"regexp"
	"strings"
	"testing"

	"sigs.k8s.io/yaml"

	"github.com/damask-sdn/damask/deploy/kustomize"
	"github.com/damask-sdn/damask/internal/kubetest"
)

// options are what an overlay has in comments: each is tried with each overlay.
var options = [][]string{nil, {"../group"}, {"../cert-manager"}, {"../takeover"}, {"../../monitoring"}}

// header is what is looked at of an object before the API server has it.
type header struct {
	Kind     string
	Metadata struct{ Name string }
}

// server is an API server with the definitions and the namespace of a manifest.
type server struct {
	*testing.T
	*kubetest.Cluster
}

func start(t *testing.T) *server {
	t.Helper()
	cluster := kubetest.Start(t)
	cluster.InstallCRDs(t, "../crds", "testdata")
	return &server{T: t, Cluster: cluster}
}

// dryRun answers what the API server has against objects; nil: nothing.
func (s *server) dryRun(objects ...[]byte) error {
	cmd := s.Command("apply", "--server-side", "--dry-run=server", "--validate=strict", "-o", "name", "-f", "-")
	cmd.Stdin = bytes.NewReader(bytes.Join(objects, []byte("\n---\n")))
	out, err := cmd.CombinedOutput()
	if err != nil {
		return fmt.Errorf("%w:\n%s", err, out)
	}
	if lines := strings.Fields(string(out)); len(lines) != len(objects) {
		return fmt.Errorf("of %d objects it answers %d:\n%s", len(objects), len(lines), out)
	}
	return nil
}

// namespaces applies the manifest's namespaces: a dry run of what is in one needs it.
func (s *server) namespaces(objects [][]byte) {
	s.Helper()
	found := 0
	for _, text := range objects {
		var o header
		if err := yaml.Unmarshal(text, &o); err != nil {
			s.Fatalf("%v\n%s", err, text)
		}
		if o.Kind == "Namespace" {
			found++
			s.Apply(s.T, string(text))
		}
	}
	if found == 0 {
		s.Fatal("there is no namespace among the objects")
	}
}

func build(t *testing.T, overlay string, with ...string) [][]byte {
	t.Helper()
	objects, err := kustomize.Build("..", overlay, with...)
	if err != nil {
		t.Fatal(err)
	}
	return objects
}

func TestTheAPIServerTakesEveryManifest(t *testing.T) {
	s := start(t)
	for _, overlay := range kustomize.Overlays {
		for _, with := range options {
			objects := build(t, overlay, with...)
			s.namespaces(objects)
			if err := s.dryRun(objects...); err != nil {
				t.Errorf("%s with %v: %v", overlay, with, err)
			} else {
				t.Logf("%s with %v: %d objects", overlay, with, len(objects))
			}
		}
	}
	s.findsWhatIsWrong(build(t, "small", "../../monitoring"))
}

// mistakes are what a person might write, and what the API server says to it: without them a
// check that accepts everything would pass too.
var mistakes = map[string]struct{ kind, from, to, says string }{
	"a field that there is not":       {"DaemonSet", "priorityClassName: ", "priorityClass: ", `field not declared in schema|unknown field "?.*priorityClass`},
	"a type that is not the field's":  {"Deployment", "replicas: 1", "replicas: one", `replicas`},
	"a value that is none of them":    {"StatefulSet", "podManagementPolicy: Parallel", "podManagementPolicy: AtOnce", `podManagementPolicy: Invalid value: "AtOnce"`},
	"a volume that is not there":      {"Deployment", "name: config\n", "name: konfig\n", `volumeMounts\[\d\]\.name: Not found`},
	"a verb's place that is no list":  {"ClusterRole", "verbs:\n", "verb:\n", `verb`},
	"a field of another's kind":       {"PrometheusRule", "expr: ", "expression: ", `expr`},
	"a definition that contradicts":   {"CustomResourceDefinition", "scope: Cluster", "scope: Global", `Unsupported value: "Global"`},
	"a disruption of nobody's making": {"PodDisruptionBudget", "maxUnavailable: 1", "maxUnavailable: -1", `must be greater than or equal to 0`},
}

func (s *server) findsWhatIsWrong(objects [][]byte) {
	for name, m := range mistakes {
		text := first(s.T, objects, m.kind, m.from)
		wrong := strings.Replace(text, m.from, m.to, 1)
		switch err := s.dryRun([]byte(wrong)); {
		case err == nil:
			s.Errorf("%s: the API server has nothing against it", name)
		case !regexp.MustCompile(m.says).MatchString(err.Error()):
			s.Errorf("%s: want %q, got %v", name, m.says, err)
		}
	}
}

// first answers the first object of a kind that has a text in it.
func first(t *testing.T, objects [][]byte, kind, has string) string {
	t.Helper()
	for _, text := range objects {
		var o header
		if err := yaml.Unmarshal(text, &o); err != nil {
			t.Fatal(err)
		}
		if o.Kind == kind && strings.Contains(string(text), has) {
			return string(text)
		}
	}
	t.Fatalf("no %s has %q", kind, has)
	return ""
}
