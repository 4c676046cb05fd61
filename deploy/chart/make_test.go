package chart

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"text/template"

	"pgregory.net/rapid"
)

// behind are changes of the manifests that values would no longer reach, and what is said
// when a chart is made of them.
var behind = map[string]struct{ file, from, to, says string }{
	"an image of somebody else's": {
		"kustomize/base/ipam.yaml", "localhost/damask-ipam:dev", "docker.io/damask-ipam:dev", `damask-ipam Deployment: container ipam: the image is "docker.io/damask-ipam:dev"`,
	},
	"a host more in one pod": {"kustomize/ha/control.yaml", "[control-3]", "[control-3, third]", "its hosts are"},
	"a service with two replicas": {
		"kustomize/ha/kustomization.yaml", "{name: damask-egress, count: 3}", "{name: damask-egress, count: 2}", "damask-egress Deployment: it has 2 replicas",
	},
	"a service that is not on each host": {
		"kustomize/ha/kustomization.yaml", "- {name: damask-egress, count: 3}\n", "", "one replica a host have [damask-ipam damask-nats damask-servicelb damask-tenancy]",
	},
	"a container of another name": {"kustomize/base/nats.yaml", "- name: nats\n", "- name: store\n", "there is no container nats, whose resources are values"},
	"servers in another way": {
		"kustomize/ha/config/egress.yaml", `"control-3:9441"]}`, `"control-3:9441", "control-4:9441"]}`, "egress.yaml has the addresses of a service 2 times, want 3",
	},
	"a store without a number of copies": {"kustomize/ha/config/ipam.yaml", "  replicas: 3\n", "", "ipam.yaml has how many servers keep a bucket 0 times, want 1"},
	"a plan in another way": {
		"kustomize/ha/config/ipam.yaml", "  - {cidr: 10.128.0.0/14, hostSubnetLength: 9}\n", "  - cidr: 10.128.0.0/14\n    hostSubnetLength: 9\n", "ipam.yaml has the networks of pods 0 times, want 1",
	},
	"a mode that is not said":             {"kustomize/ha/config/tenancy.yaml", "initialIsolationMode: networkpolicy\n", "", "tenancy.yaml has the isolation mode 0 times, want 1"},
	"an address that is not where it was": {"kustomize/ha/api-server.env", "KUBERNETES_SERVICE_HOST=", "API_SERVER_HOST=", "there is no value for API_SERVER_HOST"},
	"an example that nothing replaces": {
		"kustomize/base/namespace.yaml", "  name: damask-system\n", "  name: damask-system\n  annotations: {registry: localhost}\n", `damask-system.yaml still has "localhost"`,
	},
}

func TestAChangeThatLeavesTheChartBehindIsAnError(t *testing.T) {
	for name, b := range behind {
		t.Run(name, func(t *testing.T) {
			deploy := t.TempDir()
			for _, dir := range []string{"kustomize", "crds", "monitoring"} {
				if err := os.CopyFS(filepath.Join(deploy, dir), os.DirFS(filepath.Join("..", dir))); err != nil {
					t.Fatal(err)
				}
			}
			path := filepath.Join(deploy, b.file)
			text, err := os.ReadFile(path)
			if err != nil {
				t.Fatal(err)
			}
			if !bytes.Contains(text, []byte(b.from)) {
				t.Fatalf("%s has no %q", b.file, b.from)
			}
			if err := os.WriteFile(path, bytes.Replace(text, []byte(b.from), []byte(b.to), 1), 0o600); err != nil {
				t.Fatal(err)
			}
			if _, err := Make(deploy, dev); err == nil || !strings.Contains(err.Error(), b.says) {
				t.Errorf("want %q, got %v", b.says, err)
			}
		})
	}
}

// execute renders a template as Helm does where no function is called.
func execute(t interface{ Fatalf(string, ...any) }, text string, s set) string {
	parsed, err := template.New("").Parse(text)
	if err != nil {
		t.Fatalf("%v\n%s", err, text)
	}
	enabled := func(o int) map[string]any { return map[string]any{"enabled": s.has(o)} }
	values := map[string]any{
		"openvswitch": enabled(ovs), "takeover": enabled(takeover), "monitoring": enabled(monitoring),
		"certificates": map[string]any{"enabled": s.has(certificates), "certManager": s.has(certManager)},
	}
	var out bytes.Buffer
	if err := parsed.Execute(&out, map[string]any{"Values": values}); err != nil {
		t.Fatalf("%v\n%s", err, text)
	}
	return out.String()
}

// TestWhateverOptionsChangeIsTakenOver: lines that options add, take away and replace, at any
// place, are in the template's text with those options and no others.
func TestWhateverOptionsChangeIsTakenOver(t *testing.T) {
	terms := append([][]term{nil}, candidates()...)
	rapid.Check(t, func(t *rapid.T) {
		type change struct {
			line string
			when []term
		}
		lines := rapid.SliceOfN(rapid.Custom(func(t *rapid.T) change {
			return change{
				line: rapid.SampledFrom([]string{"a:\n", "- b\n", "  {{ c }}\n", "- {{{d\n", "e}}\n"}).Draw(t, "line"),
				when: rapid.SampledFrom(terms).Draw(t, "when"),
			}
		}), 1, 12).Draw(t, "lines")
		text := func(s set) string {
			var out strings.Builder
			for _, l := range lines {
				holds := true
				for _, w := range l.when {
					holds = holds && s.has(w.option) == w.on
				}
				if holds {
					out.WriteString(l.line)
				}
			}
			return out.String()
		}
		var texts []string
		for _, s := range built {
			texts = append(texts, text(s))
		}
		woven, err := conditions(interleave(texts), built)
		if err != nil {
			t.Skip() // more options at one line than a template says
		}
		made, err := newMaker().template(woven)
		if err != nil {
			t.Fatalf("%v", err)
		}
		for i, s := range built {
			if got := strings.TrimPrefix(execute(t, "\n"+string(made), s), "\n"); got != texts[i] {
				t.Fatalf("with %v the template\n%s\nis\n%s\nwant\n%s", s.changes(), made, got, texts[i])
			}
		}
	})
}

// FuzzEscape: any text in a template is that text.
func FuzzEscape(f *testing.F) {
	for _, seed := range []string{"", "{{", "}}", "{{ $labels.instance }}", `{{"{{"}}`, "{{{", "{ {", "{{- x -}}", "{{/*"} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, text string) {
		if got := execute(t, escape(text), 0); got != text {
			t.Errorf("%q is %q", text, got)
		}
	})
}

// TestAMarkThatNobodyKnowsIsAnError and is not what somebody installs.
func TestAMarkThatNobodyKnowsIsAnError(t *testing.T) {
	if _, err := newMaker().template([]conditional{{text: fmt.Sprintf("a: %s\n", "__place_b__")}}); err == nil {
		t.Error("it is taken")
	}
}
