package chart

import (
	"bytes"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"

	"helm.sh/helm/v3/pkg/chart/loader"
	sigsyaml "sigs.k8s.io/yaml"
)

// overlays are values with which the chart is an overlay.
var overlays = map[string]string{
	"small": "apiServer: {host: 192.0.2.1}\ncontrolPlane: {hosts: [192.0.2.1]}\n",
	"ha":    "apiServer: {host: 192.0.2.10}\ncontrolPlane: {hosts: [192.0.2.1, 192.0.2.2, 192.0.2.3]}\n",
}

// switches are the values of a set of options, which are all of them.
func (s set) values() string {
	return fmt.Sprintf("openvswitch: {enabled: %t}\ncertificates: {enabled: %t, certManager: %t}\ntakeover: {enabled: %t}\nmonitoring: {enabled: %t}\n",
		s.has(ovs), s.has(certificates), s.has(certManager), s.has(takeover), s.has(monitoring))
}

// every set of options that the chart takes.
func every() (all []set) {
	for s := range set(1) << len(options) {
		if (s.has(certManager) && !s.has(certificates)) || (s.has(takeover) && s.has(ovs)) {
			continue
		}
		all = append(all, s)
	}
	return all
}

// TestTheChartIsWhatKustomizeBuilds: object by object, names of ConfigMaps with their hashes too;
// "ha" with each combination of options, "small" with none, its own and all.
// One thing is different: what Helm must not delete says so.
func TestTheChartIsWhatKustomizeBuilds(t *testing.T) {
	for name, values := range overlays {
		sets := every()
		if name == "small" {
			sets = []set{0, of(ovs, certificates), of(certificates, certManager, takeover, monitoring)}
		}
		for _, s := range sets {
			changes := slices.DeleteFunc(s.changes(), func(change string) bool { return change == group })
			t.Run(fmt.Sprintf("%s %v", name, changes), func(t *testing.T) {
				got, err := render(t, values+s.values())
				if err != nil {
					t.Fatal(err)
				}
				want := kustomized(t, name, changes...)
				keptIn(want)
				if text := differences(got, want); text != "" {
					t.Error(text)
				}
			})
		}
	}
}

// keptIn writes into objects what the chart writes into those that Helm must not delete.
func keptIn(list objects) {
	for key, object := range list {
		switch {
		case key.kind == "CustomResourceDefinition", key.kind == "Namespace",
			key.kind == "ConfigMap" && strings.HasPrefix(key.name, "damask-ovs-"):
			annotate(object, "helm.sh/resource-policy", "keep")
		}
	}
}

// TestAGroupOfNodesIsWhatKustomizeBuilds: two things are different. A group's file is the
// agent's with what is different in the group, as the chart writes it; and it knows the hosts
// that all others know, which a copy of the manifests' group has to be told.
func TestAGroupOfNodesIsWhatKustomizeBuilds(t *testing.T) {
	for name, values := range overlays {
		t.Run(name, func(t *testing.T) {
			got, err := render(t, values+"nodeGroups: {infra: {config: {services: {engine: nftables}}}}")
			if err != nil {
				t.Fatal(err)
			}
			want := kustomized(t, name, group)
			keptIn(want)
			chartMap, chartFile := groupFile(t, got)
			kustomizeMap, kustomizeFile := groupFile(t, want)
			agents := agentFile(t, want)
			for key := range kustomizeFile {
				if own := agents[key]; own != nil {
					kustomizeFile[key] = own
				}
			}
			if !reflect.DeepEqual(chartFile, kustomizeFile) {
				t.Errorf("the group's file says %v, want %v", chartFile, kustomizeFile)
			}
			renamed := objects{}
			for _, object := range want {
				rewrite(object, func(text string) string { return strings.ReplaceAll(text, kustomizeMap.name, chartMap.name) })
				renamed[identify(object)] = object
			}
			renamed[chartMap]["data"] = got[chartMap]["data"]
			if text := differences(got, renamed); text != "" {
				t.Error(text)
			}
		})
	}
}

// groupFile answers the ConfigMap of the group infra, and what its file says.
func groupFile(t *testing.T, list objects) (identity, map[string]any) {
	t.Helper()
	return file(t, list, "damask-nodeagent-infra-", "nodeagent.yaml")
}

// agentFile answers what the file of agents says whose nodes are in no group.
func agentFile(t *testing.T, list objects) map[string]any {
	t.Helper()
	without := maps.Clone(list)
	key, _ := groupFile(t, list)
	delete(without, key)
	_, content := file(t, without, "damask-nodeagent-", "nodeagent.yaml")
	return content
}

// file answers the ConfigMap whose name begins so, and what its file says.
func file(t *testing.T, list objects, prefix, name string) (identity, map[string]any) {
	t.Helper()
	for key, object := range list {
		if key.kind != "ConfigMap" || !strings.HasPrefix(key.name, prefix) {
			continue
		}
		data, _ := dig(object, "data")
		text, _ := data[name].(string)
		var content map[string]any
		if err := sigsyaml.UnmarshalStrict([]byte(text), &content); err != nil || content == nil {
			t.Fatalf("%s: %v\n%s", key, err, text)
		}
		return key, content
	}
	t.Fatalf("there is no ConfigMap %s…", prefix)
	return identity{}, nil
}

// TestTheSameManifestsMakeTheSameChart, byte by byte, and Helm reads what is packed.
func TestTheSameManifestsMakeTheSameChart(t *testing.T) {
	var archives []string
	for range 2 {
		files, err := Make("..", dev)
		if err != nil {
			t.Fatal(err)
		}
		var packed bytes.Buffer
		if err := files.Pack(&packed); err != nil {
			t.Fatal(err)
		}
		archives = append(archives, packed.String())
	}
	if archives[0] != archives[1] {
		t.Error("the second chart is another")
	}
	loaded, err := loader.LoadArchive(strings.NewReader(archives[0]))
	if err != nil {
		t.Fatal(err)
	}
	if err := loaded.Validate(); err != nil {
		t.Fatal(err)
	}
	if got := loaded.Metadata; got.Name != Name || got.Version != "0.0.1" || got.AppVersion != "dev" {
		t.Errorf("it is %+v", got)
	}
	if len(loaded.Templates) != len(load(t, chartOf(t)).Templates) {
		t.Error("the archive has other templates")
	}
}

// TestWhatIsWrittenIsOneChart: an earlier one is gone, and the directory and the archive have the
// same files.
func TestWhatIsWrittenIsOneChart(t *testing.T) {
	out := t.TempDir()
	files := chartOf(t)
	earlier := maps.Clone(files)
	earlier["Chart.yaml"] = bytes.Replace(files["Chart.yaml"], []byte("version: 0.0.1\n"), []byte("version: 0.0.0-gone\n"), 1)
	earlier["templates/gone.yaml"] = nil
	for _, f := range []Files{earlier, files} {
		archive, err := f.Write(out)
		if err != nil {
			t.Fatal(err)
		}
		for _, path := range []string{archive, filepath.Join(out, Name)} {
			loaded, err := loader.Load(path)
			if err != nil {
				t.Fatal(err)
			}
			if len(loaded.Raw) != len(f) {
				t.Errorf("%s has %d files, want %d", path, len(loaded.Raw), len(f))
			}
			for _, raw := range loaded.Raw {
				if !bytes.Equal(raw.Data, f[raw.Name]) {
					t.Errorf("%s: %s is another", path, raw.Name)
				}
			}
		}
	}
	entries, err := os.ReadDir(out)
	if err != nil {
		t.Fatal(err)
	}
	if len(entries) != 2 {
		t.Errorf("there is besides %v", entries)
	}
}
