package chart

import (
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"helm.sh/helm/v3/pkg/lint"
	"helm.sh/helm/v3/pkg/lint/support"
	sigsyaml "sigs.k8s.io/yaml"
)

// TestEachValueIsExplained: values.yaml has what the schema knows, each with its type above it,
// and the schema nothing that has no default.
func TestEachValueIsExplained(t *testing.T) {
	files := chartOf(t)
	var values map[string]any
	if err := sigsyaml.UnmarshalStrict(files["values.yaml"], &values); err != nil {
		t.Fatal(err)
	}
	var schema map[string]any
	if err := sigsyaml.UnmarshalStrict(files["values.schema.json"], &schema); err != nil {
		t.Fatal(err)
	}
	properties, _ := dig(schema, "properties")
	delete(properties, "global")
	for name, property := range properties {
		fields, _ := dig(property.(map[string]any), "properties")
		given, isMap := values[name].(map[string]any)
		if !isMap {
			t.Errorf("values.yaml has no %s", name)
		}
		for field := range fields {
			if _, ok := given[field]; !ok {
				t.Errorf("values.yaml has no %s.%s", name, field)
			}
		}
	}
	lines := strings.Split(string(files["values.yaml"]), "\n")
	leaves := 0
	for i, line := range lines {
		if !strings.HasPrefix(line, "  ") || strings.HasPrefix(line, "  - ") || strings.HasPrefix(line, "   ") || strings.HasPrefix(line, "  #") {
			continue
		}
		leaves++
		comment := i
		for comment > 0 && strings.HasPrefix(lines[comment-1], "  #") {
			comment--
		}
		first, _, _ := strings.Cut(strings.TrimPrefix(lines[comment], "  # "), " ")
		if kind := strings.Trim(first, ":"); comment == i || !slices.Contains([]string{"string", "integer", "boolean", "list", "map"}, strings.Trim(kind, ".")) {
			t.Errorf("%q: nobody says of which type it is", line)
		}
	}
	if leaves < 20 {
		t.Errorf("found %d values", leaves)
	}
}

// TestNotesSayWhatIsLeftToDo and nothing else.
func TestNotesSayWhatIsLeftToDo(t *testing.T) {
	left := map[string]string{
		"import them on each node": "", "Make the certificates": "certificates: {enabled: false}\n",
		"damask.io/agent=damask": "takeover: {enabled: true}\nopenvswitch: {enabled: false}\n",
	}
	for _, values := range []string{"", "certificates: {enabled: false}\n", "takeover: {enabled: true}\nopenvswitch: {enabled: false}\n", "images: {registry: registry.example.com}\n"} {
		texts, err := renderTexts(t, "kube-system", overlays["ha"]+values)
		if err != nil {
			t.Fatal(err)
		}
		notes := texts[Name+"/templates/NOTES.txt"]
		for step, when := range left {
			want := when == values
			if when == "" {
				want = !strings.HasPrefix(values, "images")
			}
			if strings.Contains(notes, step) != want {
				t.Errorf("with %q they say %q: %t, want %t\n%s", values, step, !want, want, notes)
			}
		}
	}
}

// TestHelmHasNothingAgainstTheChart: what `helm lint` says.
func TestHelmHasNothingAgainstTheChart(t *testing.T) {
	out := t.TempDir()
	if _, err := chartOf(t).Write(out); err != nil {
		t.Fatal(err)
	}
	var values map[string]any
	if err := sigsyaml.Unmarshal([]byte(other), &values); err != nil {
		t.Fatal(err)
	}
	for _, message := range lint.All(filepath.Join(out, Name), values, "kube-system", true).Messages {
		if message.Severity > support.InfoSev {
			t.Error(message)
		}
	}
}
