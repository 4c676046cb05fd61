package kustomize

import (
	"os"
	"slices"
	"strings"
	"testing"

	"sigs.k8s.io/yaml"
)

// control are the services that follow the cluster's objects.
var control = []string{"damask-ipam", "damask-tenancy", "damask-servicelb", "damask-egress"}

// TestServicesFollowTheCluster: each has a token and its rights, and finds the API server
// without what Damask makes work.
func TestServicesFollowTheCluster(t *testing.T) {
	each(t, func(t *testing.T, objects []object) {
		maps := map[string]map[string]string{}
		accounts := map[string]bool{}
		for _, o := range objects {
			switch o.Kind {
			case "ConfigMap":
				maps[o.Metadata.Name] = o.Data
			case "ServiceAccount":
				accounts[o.Metadata.Name] = true
			}
		}
		workloads(t, objects, func(t *testing.T, _ object, p pod) {
			if !accounts[p.ServiceAccountName] {
				t.Errorf("there is no ServiceAccount %q", p.ServiceAccountName)
			}
			c := p.Containers[0]
			agent := c.program() == "damask-nodeagent"
			if !agent && !slices.Contains(control, c.program()) {
				return
			}
			token := slices.ContainsFunc(c.VolumeMounts, func(m mount) bool { return m.Name == "token" })
			if agent == p.AutomountServiceAccountToken || agent != token {
				t.Errorf("it has no token, or all containers have one: %t, %t", p.AutomountServiceAccountToken, token)
			}
			if len(c.EnvFrom) == 0 || maps[c.EnvFrom[0].ConfigMapRef.Name]["KUBERNETES_SERVICE_HOST"] == "" {
				t.Errorf("nobody says where the API server is: %v", c.EnvFrom)
			}
			var cfg struct {
				Kubernetes struct{ Enabled bool }
				Selectors  bool
			}
			name, _ := strings.CutPrefix(c.program(), "damask-")
			for _, v := range p.Volumes {
				if v.ConfigMap == nil {
					continue
				}
				if err := yaml.Unmarshal([]byte(maps[v.ConfigMap.Name][name+".yaml"]), &cfg); err != nil {
					t.Fatal(err)
				}
			}
			if !cfg.Kubernetes.Enabled || cfg.Selectors {
				t.Errorf("follows the cluster: %t; writes endpoints that Kubernetes writes: %t", cfg.Kubernetes.Enabled, cfg.Selectors)
			}
		})
	})
}

// TestNobodyHasMoreRightsThanWereMeant holds what no service of a pod network needs. That
// the rights are enough, the services' own tests show.
func TestNobodyHasMoreRightsThanWereMeant(t *testing.T) {
	each(t, func(t *testing.T, objects []object) {
		roles := 0
		for _, o := range objects {
			if o.Kind != "ClusterRole" && o.Kind != "Role" {
				continue
			}
			roles++
			for _, rule := range o.Rules {
				all := slices.Concat(rule.APIGroups, rule.Resources, rule.Verbs)
				for _, word := range all {
					if strings.Contains(word, "*") || slices.Contains([]string{"escalate", "bind", "impersonate", "deletecollection"}, word) {
						t.Errorf("%s %s: %q in %+v", o.Kind, o.Metadata.Name, word, rule)
					}
				}
				if slices.Contains(rule.Resources, "secrets") && (o.Kind == "ClusterRole" || len(rule.ResourceNames) == 0 && !slices.Equal(rule.Verbs, []string{"create"})) {
					t.Errorf("%s %s: Secrets that nobody named: %+v", o.Kind, o.Metadata.Name, rule)
				}
			}
		}
		if roles < len(control) {
			t.Errorf("found %d roles", roles)
		}
	})
}

// TestAGroupOfNodesHasAnAgentOfItsOwn: a node has the agent of its group and no other, with
// the configuration of the group.
func TestAGroupOfNodesHasAnAgentOfItsOwn(t *testing.T) {
	agents := map[string]object{}
	configurations := map[string]string{}
	for _, o := range build(t, "ha", "../group") {
		if o.Kind == "DaemonSet" && o.Spec.Template.Spec.Containers[0].program() == "damask-nodeagent" {
			group := o.Spec.Selector.MatchLabels["damask.io/node-group"]
			agents[group] = o
			for _, v := range o.Spec.Template.Spec.Volumes {
				if v.Name == "config" {
					configurations[group] = v.ConfigMap.Name
				}
			}
		}
	}
	if len(agents) != 2 || configurations["default"] == configurations["infra"] {
		t.Fatalf("agents are %v, their configurations %v", agents, configurations)
	}
	for group, want := range map[string]string{"default": "DoesNotExist []", "infra": "In [infra]"} {
		if got := agents[group].Spec.Template.Spec.nodes(); got != want {
			t.Errorf("%s is on nodes whose group is %s, want %s", group, got, want)
		}
		if hosts := len(agents[group].Spec.Template.Spec.HostAliases); hosts != 3 {
			t.Errorf("%s knows %d hosts of the control plane", group, hosts)
		}
	}
}

// TestEachNodesPodKeepsTheNodesCertificate: also in groups, before the agent starts and after.
func TestEachNodesPodKeepsTheNodesCertificate(t *testing.T) {
	agents := 0
	for _, o := range build(t, "small", "../group") {
		if o.Kind != "DaemonSet" || o.Spec.Template.Spec.Containers[0].program() != "damask-nodeagent" {
			continue
		}
		agents++
		p := o.Spec.Template.Spec
		for name, containers := range map[string][]container{"first-certificate": p.InitContainers, "certificate": p.Containers} {
			i := slices.IndexFunc(containers, func(c container) bool { return c.Name == name })
			if i < 0 {
				t.Fatalf("%s: nobody gets the certificate", o.Metadata.Name)
			}
			if len(containers[i].EnvFrom) == 0 || len(containers[i].VolumeMounts) != 3 {
				t.Errorf("%s: it does not know the API server, or has no token: %+v", o.Metadata.Name, containers[i])
			}
		}
	}
	if agents != 2 {
		t.Errorf("found %d agents", agents)
	}
}

// TestATakeoverSeesWhatIsToBeTakenOver: the agent is only where a label says so, and sees
// what its configuration names of the other agent and of the container runtime; and the
// plugin has the other's name too, by which CRI-O deletes its pods.
func TestATakeoverSeesWhatIsToBeTakenOver(t *testing.T) {
	text, err := os.ReadFile("../config/nodeagent.yaml")
	if err != nil {
		t.Fatal(err)
	}
	var cfg struct {
		Takeover struct{ Socket, RuntimeCache string }
	}
	if err := yaml.Unmarshal(text, &cfg); err != nil || cfg.Takeover.Socket == "" || cfg.Takeover.RuntimeCache == "" {
		t.Fatalf("the reference says nothing of a takeover: %+v, %v", cfg, err)
	}
	agents := 0
	for _, o := range build(t, "ha", "../group", "../takeover") {
		if o.Kind != "DaemonSet" || o.Spec.Template.Spec.Containers[0].program() != "damask-nodeagent" {
			continue
		}
		agents++
		p := o.Spec.Template.Spec
		if p.NodeSelector["damask.io/agent"] != "damask" {
			t.Errorf("%s is on every node: %v", o.Metadata.Name, p.NodeSelector)
		}
		for _, path := range []string{cfg.Takeover.Socket, cfg.Takeover.RuntimeCache} {
			if !slices.ContainsFunc(p.Containers[0].VolumeMounts, func(m mount) bool { return strings.HasPrefix(path+"/", m.MountPath+"/") }) {
				t.Errorf("%s does not see %s", o.Metadata.Name, path)
			}
		}
		for _, c := range p.Containers {
			if taken := slices.Equal(c.Command[max(0, len(c.Command)-2):], []string{"-alias", "openshift-sdn"}); taken != (c.Name == "cni") {
				t.Errorf("%s: container %s is started by %v", o.Metadata.Name, c.Name, c.Command)
			}
		}
	}
	if agents != 2 {
		t.Errorf("found %d agents", agents)
	}
}

// TestOpenVSwitchDependsOnNoOtherComponent: what turns one of them on or off leaves nodes' Open
// vSwitch as it is.
func TestOpenVSwitchDependsOnNoOtherComponent(t *testing.T) {
	of := func(with ...string) (list []string) {
		texts, err := Build("..", "ha", with...)
		if err != nil {
			t.Fatal(err)
		}
		for _, text := range texts {
			if strings.Contains(string(text), "name: damask-ovs") {
				list = append(list, string(text))
			}
		}
		return list
	}
	alone := of("-../certificates")
	if len(alone) != 3 {
		t.Errorf("found %d objects, want an account, a ConfigMap and a DaemonSet", len(alone))
	}
	for _, with := range [][]string{nil, {"../cert-manager"}, {"../../monitoring"}, {"../group"}} {
		if got := of(with...); !slices.Equal(got, alone) {
			t.Errorf("with %v it is\n%s\nand alone\n%s", with, got, alone)
		}
	}
}
