package kustomize

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"sigs.k8s.io/yaml"
)

// object is an object of Kubernetes, as far as the tests look.
type object struct {
	Kind     string
	Metadata struct{ Name, Namespace string }
	Data     map[string]string
	Rules    []struct{ APIGroups, Resources, ResourceNames, Verbs []string }
	Spec     struct {
		Replicas *int
		Selector struct{ MatchLabels map[string]string }
		Template *struct{ Spec pod }
	}
}

type pod struct {
	HostNetwork                  bool
	NodeSelector                 map[string]string
	ServiceAccountName           string
	AutomountServiceAccountToken bool
	HostAliases                  []struct{ Hostnames []string }
	InitContainers, Containers   []container
	Affinity                     struct {
		NodeAffinity struct {
			RequiredDuringSchedulingIgnoredDuringExecution struct {
				NodeSelectorTerms []struct {
					MatchExpressions []struct {
						Key, Operator string
						Values        []string
					}
				}
			}
		}
	}
	Volumes []struct {
		Name      string
		ConfigMap *struct{ Name string }
	}
}

// nodes says which groups of nodes a pod is for.
func (p pod) nodes() (text string) {
	for _, term := range p.Affinity.NodeAffinity.RequiredDuringSchedulingIgnoredDuringExecution.NodeSelectorTerms {
		for _, e := range term.MatchExpressions {
			if e.Key == "damask.io/node-group" {
				text += fmt.Sprintf("%s %v", e.Operator, e.Values)
			}
		}
	}
	return text
}

type container struct {
	Name, Image   string
	Command, Args []string
	Ports         []struct {
		Name          string
		ContainerPort int
	}
	EnvFrom        []struct{ ConfigMapRef *struct{ Name string } }
	ReadinessProbe *struct{ HTTPGet *struct{ Path string } }
	Resources      struct{ Requests map[string]string }
	VolumeMounts   []mount
}

type mount struct{ Name, MountPath string }

// program is the program that a container's image is of.
func (c container) program() string {
	return strings.TrimSuffix(strings.TrimPrefix(c.Image, "localhost/"), ":dev")
}

// built are the objects of overlays that were built before.
var built = map[string][]object{}

// build builds an overlay.
func build(t *testing.T, overlay string, with ...string) []object {
	t.Helper()
	key := fmt.Sprint(overlay, with)
	if list, ok := built[key]; ok {
		return list
	}
	texts, err := Build("..", overlay, with...)
	if err != nil {
		t.Fatal(err)
	}
	var list []object
	for _, text := range texts {
		var o object
		if err := yaml.Unmarshal(text, &o); err != nil {
			t.Fatalf("%v\n%s", err, text)
		}
		list = append(list, o)
	}
	built[key] = list
	return list
}

// workloads calls a function with each pod template of an overlay.
func workloads(t *testing.T, objects []object, look func(t *testing.T, o object, p pod)) {
	t.Helper()
	found := 0
	for _, o := range objects {
		if o.Spec.Template == nil {
			continue
		}
		found++
		t.Run(o.Metadata.Name, func(t *testing.T) { look(t, o, o.Spec.Template.Spec) })
	}
	if found < 7 {
		t.Errorf("found %d workloads, want four services, NATS, the agent and Open vSwitch", found)
	}
}

// each runs a test with each overlay.
func each(t *testing.T, test func(t *testing.T, objects []object)) {
	for _, overlay := range Overlays {
		t.Run(overlay, func(t *testing.T) { test(t, build(t, overlay)) })
		t.Run(overlay+" with a group of nodes", func(t *testing.T) { test(t, build(t, overlay, "../group")) })
	}
}

func TestEveryProgramTakesItsConfiguration(t *testing.T) {
	const programs = "../../bin"
	if _, err := os.Stat(filepath.Join(programs, "damask-ipam")); err != nil {
		t.Skip("no programs: make build")
	}
	each(t, func(t *testing.T, objects []object) {
		files := map[string]map[string]string{}
		for _, o := range objects {
			if o.Kind == "ConfigMap" {
				files[o.Metadata.Name] = o.Data
			}
		}
		workloads(t, objects, func(t *testing.T, _ object, p pod) {
			if p.Containers[0].program() == "damask-certificates" {
				return // has no file
			}
			text := ""
			for _, v := range p.Volumes {
				if v.ConfigMap == nil {
					continue
				}
				for name, content := range files[v.ConfigMap.Name] {
					if want := "/etc/damask/config/" + name; p.Containers[0].Args[1] != want {
						t.Errorf("reads %s, and the file is %s", p.Containers[0].Args[1], want)
					}
					text = content
				}
			}
			file := filepath.Join(t.TempDir(), "config.yaml")
			if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
				t.Fatal(err)
			}
			check := exec.Command(filepath.Join(programs, p.Containers[0].program()), "-check", "-config", file)
			check.Env = append(os.Environ(), "DAMASK_NODE=node1", "DAMASK_HOST_IP=192.0.2.11")
			if out, err := check.CombinedOutput(); text == "" || err != nil {
				t.Errorf("%v\n%s\n%s", err, out, text)
			}
		})
	})
}

func TestWhatAPodNamesIsThere(t *testing.T) {
	catalog, err := os.ReadFile("../images/catalog.go")
	if err != nil {
		t.Fatal(err)
	}
	each(t, func(t *testing.T, objects []object) {
		workloads(t, objects, func(t *testing.T, _ object, p pod) {
			volumes := map[string]bool{}
			for _, v := range p.Volumes {
				volumes[v.Name] = true
			}
			for _, c := range append(p.InitContainers, p.Containers...) {
				if !strings.Contains(string(catalog), fmt.Sprintf("name: %q", c.program())) {
					t.Errorf("%s: `make images` makes no %s", c.Name, c.Image)
				}
				for _, m := range c.VolumeMounts {
					if !volumes[m.Name] {
						t.Errorf("%s: there is no volume %s", c.Name, m.Name)
					}
				}
			}
			for _, c := range p.Containers {
				if c.Resources.Requests["cpu"] == "" || c.Resources.Requests["memory"] == "" {
					t.Errorf("%s requests no resources", c.Name)
				}
			}
		})
	})
}

// TestWhatTheNetworkNeedsNeedsNoNetwork: whatever must run before pods can be attached is
// on its host's network, and finds the others by names that need no DNS.
func TestWhatTheNetworkNeedsNeedsNoNetwork(t *testing.T) {
	each(t, func(t *testing.T, objects []object) {
		servers := 1
		for _, o := range objects {
			if o.Metadata.Name == "damask-nats" && o.Spec.Replicas != nil {
				servers = *o.Spec.Replicas
			}
		}
		workloads(t, objects, func(t *testing.T, o object, p pod) {
			if !p.HostNetwork {
				t.Error("is on the pod network")
			}
			if len(p.HostAliases) != servers {
				t.Errorf("knows %d hosts of the control plane, want %d", len(p.HostAliases), servers)
			}
			if o.Metadata.Name == "damask-ovs" {
				return // asks nobody
			}
			if o.Metadata.Name == "damask-certificates" {
				return // asks the API server alone, and there is always one
			}
			if o.Spec.Replicas != nil && *o.Spec.Replicas != servers {
				t.Errorf("has %d replicas, want %d", *o.Spec.Replicas, servers)
			}
			if probe := p.Containers[0].ReadinessProbe; probe == nil || probe.HTTPGet == nil || probe.HTTPGet.Path != "/healthz" {
				t.Error("nobody asks whether it is ready")
			}
		})
	})
}
