package check

import (
	"context"
	"maps"
	"slices"
	"strings"
	"testing"

	"helm.sh/helm/v3/pkg/action"
	helm "helm.sh/helm/v3/pkg/chart"
	"helm.sh/helm/v3/pkg/chart/loader"
	"helm.sh/helm/v3/pkg/chartutil"
	"k8s.io/cli-runtime/pkg/genericclioptions"
	"k8s.io/client-go/rest"
	"sigs.k8s.io/yaml"

	"github.com/damask-sdn/damask/deploy/chart"
	"github.com/damask-sdn/damask/deploy/kustomize"
	"github.com/damask-sdn/damask/internal/kubetest"
)

const (
	namespace = "damask-system"
	// releases is the namespace that Helm keeps releases in.
	releases = "kube-system"
)

// values make of the chart what an overlay is.
var values = map[string]string{
	"small": "apiServer: {host: 192.0.2.1}\ncontrolPlane: {hosts: [192.0.2.1]}\n",
	"ha":    "apiServer: {host: 192.0.2.10}\ncontrolPlane: {hosts: [192.0.2.1, 192.0.2.2, 192.0.2.3]}\n",
}

// additions are the values of what an overlay has in comments, and of what can be left out.
var additions = []string{
	"",
	"nodeGroups: {infra: {config: {services: {engine: nftables}}}, '1': {}}",
	"certificates: {certManager: true}",
	"certificates: {enabled: false}",
	"openvswitch: {enabled: false}\ntakeover: {enabled: true}",
	"monitoring: {enabled: true}",
	"images: {pullSecrets: [pull]}\nresources: {ipam: {limits: {cpu: 2, memory: 1Gi}}}",
}

// made makes the chart, with a change of its files if there is one.
func made(t *testing.T, change func(chart.Files)) *helm.Chart {
	t.Helper()
	files, err := chart.Make("..", chart.Release{Version: "v0.0.1", Registry: "localhost", Tag: "dev"})
	if err != nil {
		t.Fatal(err)
	}
	if change != nil {
		change(files)
	}
	var list []*loader.BufferedFile
	for _, name := range slices.Sorted(maps.Keys(files)) {
		list = append(list, &loader.BufferedFile{Name: name, Data: files[name]})
	}
	loaded, err := loader.LoadFiles(list)
	if err != nil {
		t.Fatal(err)
	}
	return loaded
}

func parse(t *testing.T, text string) chartutil.Values {
	t.Helper()
	parsed, err := chartutil.ReadValues([]byte(text))
	if err != nil {
		t.Fatal(err)
	}
	return parsed
}

// rendered are the objects that an install would make.
func rendered(t *testing.T, c *helm.Chart, values string) [][]byte {
	t.Helper()
	install := action.NewInstall(new(action.Configuration))
	install.ReleaseName, install.Namespace, install.ClientOnly, install.DryRun = chart.Name, releases, true, true
	install.KubeVersion = &chartutil.KubeVersion{Version: "v1.30.0", Major: "1", Minor: "30"}
	release, err := install.Run(c, parse(t, values))
	if err != nil {
		t.Fatal(err)
	}
	var objects [][]byte
	for text := range strings.SplitSeq(release.Manifest, "\n---\n") {
		var o header
		if err := yaml.Unmarshal([]byte(text), &o); err != nil {
			t.Fatalf("%v\n%s", err, text)
		}
		if o.Kind != "" {
			objects = append(objects, []byte(text))
		}
	}
	return objects
}

func TestTheAPIServerTakesTheChart(t *testing.T) {
	s, c := start(t), made(t, nil)
	for _, overlay := range kustomize.Overlays {
		for _, added := range additions {
			objects := rendered(t, c, values[overlay]+added)
			s.namespaces(objects)
			if err := s.dryRun(objects...); err != nil {
				t.Errorf("%s with %q: %v", overlay, added, err)
			} else {
				t.Logf("%s with %q: %d objects", overlay, added, len(objects))
			}
		}
	}
}

// releasing is Helm, and an API server.
type releasing struct {
	*server
	helm *action.Configuration
}

func startHelm(t *testing.T) *releasing {
	t.Helper()
	cluster := kubetest.Start(t)
	flags := genericclioptions.NewConfigFlags(false)
	kubeconfig := cluster.Kubeconfig()
	flags.KubeConfig = &kubeconfig
	flags.WrapConfigFn = func(config *rest.Config) *rest.Config {
		config.QPS = -1 // a test waits for the server, not for itself
		return config
	}
	r := &releasing{server: &server{T: t, Cluster: cluster}, helm: new(action.Configuration)}
	if err := r.helm.Init(flags, releases, "secret", func(string, ...any) {}); err != nil {
		t.Fatal(err)
	}
	return r
}

func (r *releasing) install(c *helm.Chart, values string, takeOwnership bool) error {
	install := action.NewInstall(r.helm)
	install.ReleaseName, install.Namespace, install.TakeOwnership = chart.Name, releases, takeOwnership
	_, err := install.RunWithContext(context.Background(), c, parse(r.T, values))
	return err
}

func (r *releasing) upgrade(c *helm.Chart, values string) {
	r.Helper()
	upgrade := action.NewUpgrade(r.helm)
	upgrade.Namespace = releases
	if _, err := upgrade.RunWithContext(context.Background(), chart.Name, c, parse(r.T, values)); err != nil {
		r.Fatalf("upgrade: %v", err)
	}
}

func (r *releasing) uninstall() {
	r.Helper()
	if _, err := action.NewUninstall(r.helm).Run(chart.Name); err != nil {
		r.Fatalf("uninstall: %v", err)
	}
}

// workloads say what each workload is: another text is other pods, or another number of them.
// A generation is not looked at, which is another for a Deployment that Helm has annotated.
func (r *releasing) workloads() map[string]string {
	r.Helper()
	found := map[string]string{}
	for line := range strings.Lines(r.Kubectl(r.T, "get", "deployments,statefulsets,daemonsets", "-n", namespace,
		"-o", `jsonpath={range .items[*]}{.metadata.name} {.spec}{"\n"}{end}`)) {
		name, spec, _ := strings.Cut(strings.TrimSpace(line), " ")
		found[name] = spec
	}
	return found
}

// reads is the ConfigMap that a workload's pods read.
func (r *releasing) reads(workload string) string {
	r.Helper()
	return r.Kubectl(r.T, "get", workload, "-n", namespace, "-o", `jsonpath={.spec.template.spec.volumes[?(@.name=="config")].configMap.name}`)
}

// there says whether an object is.
func (r *releasing) there(args ...string) bool {
	r.Helper()
	return r.Kubectl(r.T, append([]string{"get", "--ignore-not-found", "-o", "name"}, args...)...) != ""
}
