package policyfile

import (
	"testing"

	"go.yaml.in/yaml/v3"
)

func TestAFileIsSplitIntoItsPolicies(t *testing.T) {
	manifests, err := Split([]byte("---\n# a comment\n---\nkind: NetworkPolicy\nmetadata: {namespace: a, name: one}\n---\n{\"kind\": \"AdminNetworkPolicy\", \"metadata\": {\"name\": \"two\"}}\n"))
	if err != nil || len(manifests) != 2 {
		t.Fatalf("got %q, %v", manifests, err)
	}
	for i, want := range []Head{{Kind: "NetworkPolicy"}, {Kind: "AdminNetworkPolicy"}} {
		want.Metadata.Name = []string{"one", "two"}[i]
		want.Metadata.Namespace = []string{"a", ""}[i]
		if got, err := ReadHead(manifests[i]); err != nil || got != want {
			t.Errorf("got %+v, %v, want %+v", got, err, want)
		}
	}
	for _, bad := range []string{"", "---\n", "a: [", "a: b\n---\n{"} {
		if manifests, err := Split([]byte(bad)); err == nil {
			t.Errorf("%q was split into %q", bad, manifests)
		}
	}
}

// FuzzSplit: what is split off says the same as before.
func FuzzSplit(f *testing.F) {
	f.Add([]byte("kind: A\n---\nkind: [B]\n"))
	f.Add([]byte("a: &x 1\nb: *x\n"))
	f.Fuzz(func(t *testing.T, data []byte) {
		manifests, err := Split(data)
		if err != nil {
			return
		}
		for _, m := range manifests {
			var node yaml.Node
			if err := yaml.Unmarshal([]byte(m), &node); err != nil {
				t.Errorf("%q cannot be read: %v", m, err)
			}
		}
	})
}
