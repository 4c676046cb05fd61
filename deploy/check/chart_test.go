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

	"github.com/damask-sdn/damask/deploy/chart"
	"github.com/damask-sdn/damask/internal/kubetest"
)

const (
	namespace = "damask-system"
	// releases is the namespace that Helm keeps releases in.
	releases = "kube-system"
)

// small makes of the chart what the overlay "small" is.
const small = "apiServer: {host: 192.0.2.1}\ncontrolPlane: {hosts: [192.0.2.1]}\n"

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

func (r *releasing) install(c *helm.Chart, values string) error {
	install := action.NewInstall(r.helm)
	install.ReleaseName, install.Namespace = chart.Name, releases
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

// generations say of which generation each workload is: another one is other pods, or another
// number of them.
func (r *releasing) generations() map[string]string {
	r.Helper()
	found := map[string]string{}
	for line := range strings.Lines(r.Kubectl(r.T, "get", "deployments,statefulsets,daemonsets", "-n", namespace,
		"-o", `jsonpath={range .items[*]}{.metadata.name} {.metadata.generation}{"\n"}{end}`)) {
		name, generation, _ := strings.Cut(strings.TrimSpace(line), " ")
		found[name] = generation
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
