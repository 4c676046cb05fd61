package chart

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"

	sigsyaml "sigs.k8s.io/yaml"
)

// wrong are values that are refused, and all of what is said to them.
var wrong = map[string]struct {
	namespace, values string
	says              []string
}{
	"nothing": {values: "", says: []string{"apiServer.host is missing", "controlPlane.hosts is missing"}},
	"one thing": {
		values: "apiServer: {host: 192.0.2.1}", says: []string{"controlPlane.hosts is missing"},
	},
	"two hosts": {
		values: "apiServer: {host: 192.0.2.1}\ncontrolPlane: {hosts: [192.0.2.1, 192.0.2.2]}",
		says:   []string{"controlPlane.hosts has 2 hosts"},
	},
	"what excludes one another, and what is nobody's to set": {
		values: overlays["ha"] + "certificates: {enabled: false, certManager: true}\ntakeover: {enabled: true}\n" +
			"nodeGroups: {default: {}, infra: {config: {nats: {servers: []}}}}\n" +
			"config: {ipam: {listen: '0.0.0.0:1', initialNetwork: {networks: [], mtu: 1400}}, nodeagent: {kubernetes: {enabled: false, qps: 7}}}\n",
		says: []string{
			"certificates.certManager is for", "takeover.enabled is for", "nodeGroups.default:", "nodeGroups.infra.config.nats.servers is written by the chart",
			"config.ipam.listen is written by the chart", "config.ipam.initialNetwork.networks is written", "config.nodeagent.kubernetes.enabled is written",
		},
	},
	"the namespace that is in the chart": {
		namespace: "damask-system", values: overlays["ha"], says: []string{"install it with --namespace kube-system"},
	},
	"names that are none": {
		values: overlays["ha"] + "api: {}\nimages: {tags: v1}\nresources: {cni: {}}\nnodeGroups: {infra: {conf: {}}}\nconfig: {dns: {}}",
		says:   []string{"'api'", "'/images'", "'tags'", "'cni'", "'conf'", "'dns'"},
	},
	"types that are others": {
		values: "apiServer: {host: 1, port: '6443'}\ncontrolPlane: {hosts: 192.0.2.1}\nimages: {tag: 1.2}\nmonitoring: {enabled: 'yes'}\ntakeover: true",
		says:   []string{"'/apiServer/host'", "'/apiServer/port'", "'/controlPlane/hosts'", "'/images/tag'", "'/monitoring/enabled'", "'/takeover'"},
	},
	"values that nothing takes": {
		values: "apiServer: {host: 'https://api', port: 0}\ncontrolPlane: {hosts: [control-1, 192.0.2.300]}\nimages: {registry: 'a b'}\n" +
			"network: {pods: [{cidr: 10.0.0.0/8}], services: [], isolationMode: open}",
		says: []string{
			"'/apiServer/host'", "'/apiServer/port'", "'/controlPlane/hosts/0': 'control-1' is not valid ipv4", "'/controlPlane/hosts/1'", "'/images/registry'",
			"'/network/pods/0'", "hostSubnetLength", "'/network/services'", "'/network/isolationMode'",
		},
	},
	"ranges and names that are none": {
		values: overlays["ha"] + "network: {pods: [{cidr: 10.0.0.0/8, hostSubnetLength: 9}, {cidr: 10.0.0.0, hostSubnetLength: 9}], services: [172.30.0.0/33]}\n" +
			"nodeGroups: {a.b: {}, of-more-letters-than-there-may-be-in-a-name: {}, edge: {}}",
		says: []string{`network.pods[1].cidr is "10.0.0.0"`, `network.services[0] is "172.30.0.0/33"`, `nodeGroups has "a.b"`, `nodeGroups has "of-more-`},
	},
	"what is taken away": {
		values: "apiServer: null\ncontrolPlane: {hosts: null}\nmonitoring: {enabled: null}\nconfig: {ovs: null}\nnodeGroups: {infra: null}",
		says:   []string{"'apiServer'", "'hosts'", "'enabled'", "'ovs'", "'/nodeGroups/infra'"},
	},
	"a host twice": {
		values: "apiServer: {host: api}\ncontrolPlane: {hosts: [192.0.2.1, 192.0.2.1, 192.0.2.3]}", says: []string{"'/controlPlane/hosts'"},
	},
}

func TestWrongValuesAreRefusedAndAllAreNamed(t *testing.T) {
	for name, w := range wrong {
		t.Run(name, func(t *testing.T) {
			namespace := w.namespace
			if namespace == "" {
				namespace = "kube-system"
			}
			_, err := renderIn(t, namespace, w.values)
			if err == nil {
				t.Fatal("they are taken")
			}
			for _, want := range w.says {
				if !strings.Contains(err.Error(), want) {
					t.Errorf("nothing is said of %q:\n%v", want, err)
				}
			}
		})
	}
}

// other are values that differ from the overlays' wherever they can.
const other = `
apiServer: {host: api.example.com, port: 443}
controlPlane: {hosts: [198.51.100.1, 198.51.100.2, 198.51.100.3, 198.51.100.4, 198.51.100.5]}
images: {registry: registry.example.com/damask, tag: v1.2.3, pullSecrets: [pull]}
network: {pods: [{cidr: 10.0.0.0/14, hostSubnetLength: 8}, {cidr: 10.4.0.0/14, hostSubnetLength: 9}], services: [10.96.0.0/16, 10.97.0.0/16], isolationMode: combined}
monitoring: {enabled: true}
nodeGroups: {"123": {config: {services: {engine: nftables}, networkPolicy: {cutConnections: true}}}, edge: {}}
config:
  ipam: {initialNetwork: {mtu: 1400}, log: {level: debug}}
  nodeagent: {auditInterval: 5m, log: {json: false}, networkPolicy: {cutConnections: false}}
resources: {ovs: {requests: {memory: 1Gi}, limits: {memory: 2Gi}}}
global: {of: another chart}
`

func TestValuesAreWhereTheyBelong(t *testing.T) {
	list, err := render(t, other)
	if err != nil {
		t.Fatal(err)
	}
	text, err := sigsyaml.Marshal(slices.Collect(func(yield func(map[string]any) bool) {
		for _, object := range list {
			if identify(object).kind != "CustomResourceDefinition" && !yield(object) {
				return
			}
		}
	}))
	if err != nil {
		t.Fatal(err)
	}
	for _, example := range examples {
		if strings.Contains(string(text), example) && !strings.HasPrefix(example, "control-") {
			t.Errorf("%q is there still", example)
		}
	}
	pods := 0
	for key, object := range list {
		spec, ok := dig(object, "spec", "template", "spec")
		if !ok {
			continue
		}
		pods++
		valuesInPod(t, key, object, spec)
	}
	if pods != 10 {
		t.Errorf("there are %d workloads, want those of the base, Open vSwitch, certificates and two groups", pods)
	}
	valuesInFiles(t, list)
}

func valuesInPod(t *testing.T, key identity, object, spec map[string]any) {
	t.Helper()
	if got := fmt.Sprint(spec["imagePullSecrets"]); got != "[map[name:pull]]" {
		t.Errorf("%s: imagePullSecrets are %s", key, got)
	}
	if aliases, _ := spec["hostAliases"].([]any); len(aliases) != 5 ||
		!reflect.DeepEqual(aliases[4], map[string]any{"ip": "198.51.100.5", "hostnames": []any{"control-5"}}) {
		t.Errorf("%s: hostAliases are %v", key, aliases)
	}
	want := any(5.0)
	if key.kind == "DaemonSet" {
		want = nil
	} else if key.name == "damask-certificates" {
		want = 1.0
	}
	if got := object["spec"].(map[string]any)["replicas"]; got != want {
		t.Errorf("%s has %v replicas, want %v", key, got, want)
	}
	containers, _ := spec["containers"].([]any)
	initial, _ := spec["initContainers"].([]any)
	for _, c := range append(containers, initial...) {
		c := c.(map[string]any)
		if image := c["image"].(string); !strings.HasPrefix(image, "registry.example.com/damask/damask-") || !strings.HasSuffix(image, ":v1.2.3") {
			t.Errorf("%s: the image is %s", key, image)
		}
		if c["name"] == "ovs" {
			want := map[string]any{"requests": map[string]any{"cpu": "200m", "memory": "1Gi"}, "limits": map[string]any{"memory": "2Gi"}}
			if !reflect.DeepEqual(c["resources"], any(want)) {
				t.Errorf("Open vSwitch has the resources %v, want %v", c["resources"], want)
			}
		}
	}
}

func valuesInFiles(t *testing.T, list objects) {
	t.Helper()
	_, ipam := file(t, list, "damask-ipam-", "ipam.yaml")
	plan := map[string]any{
		"networks":        []any{map[string]any{"cidr": "10.0.0.0/14", "hostSubnetLength": 8.0}, map[string]any{"cidr": "10.4.0.0/14", "hostSubnetLength": 9.0}},
		"serviceNetworks": []any{"10.96.0.0/16", "10.97.0.0/16"}, "mtu": 1400.0,
	}
	if !reflect.DeepEqual(ipam["initialNetwork"], any(plan)) {
		t.Errorf("the plan is %v, want %v", ipam["initialNetwork"], plan)
	}
	if want := map[string]any{"json": true, "level": "debug"}; !reflect.DeepEqual(ipam["log"], any(want)) {
		t.Errorf("log is %v, want %v", ipam["log"], want)
	}
	if _, tenancy := file(t, list, "damask-tenancy-", "tenancy.yaml"); tenancy["initialIsolationMode"] != "combined" {
		t.Errorf("the mode is %v", tenancy["initialIsolationMode"])
	}
	_, nats := file(t, list, "damask-nats-", "nats.yaml")
	if cluster, _ := dig(nats, "cluster"); len(cluster["routes"].([]any)) != 5 {
		t.Errorf("the store's servers know %v", cluster["routes"])
	}
	for group, cut := range map[string]bool{"123": true, "edge": false} {
		_, agent := file(t, list, "damask-nodeagent-"+group+"-", "nodeagent.yaml")
		policy, _ := dig(agent, "networkPolicy")
		log, _ := dig(agent, "log")
		if agent["auditInterval"] != "5m" || log["json"] != false || policy["cutConnections"] != cut {
			t.Errorf("the agents of group %s have %v", group, agent)
		}
		if nats, _ := dig(agent, "nats"); len(nats["servers"].([]any)) != 5 {
			t.Errorf("the agents of group %s know %v", group, nats)
		}
	}
}

// TestThePortOfTheAPIServer is text where it is an environment's.
func TestThePortOfTheAPIServer(t *testing.T) {
	list, err := render(t, other)
	if err != nil {
		t.Fatal(err)
	}
	for key, object := range list {
		if strings.HasPrefix(key.name, "damask-api-server-") {
			if want := map[string]any{"KUBERNETES_SERVICE_HOST": "api.example.com", "KUBERNETES_SERVICE_PORT": "443"}; !reflect.DeepEqual(object["data"], any(want)) {
				t.Errorf("it has %v, want %v", object["data"], want)
			}
			return
		}
	}
	t.Error("nobody says where the API server is")
}

// TestEveryProgramTakesWhatValuesMakeOfItsFile, those of groups too.
func TestEveryProgramTakesWhatValuesMakeOfItsFile(t *testing.T) {
	const programs = "../../bin"
	if _, err := os.Stat(filepath.Join(programs, "damask-ipam")); err != nil {
		t.Skip("no programs: make build")
	}
	list, err := render(t, other)
	if err != nil {
		t.Fatal(err)
	}
	files := 0
	for key, object := range list {
		data, _ := dig(object, "data")
		for name, text := range data {
			process, isFile := strings.CutSuffix(name, ".yaml")
			if key.kind != "ConfigMap" || !isFile {
				continue
			}
			files++
			path := filepath.Join(t.TempDir(), name)
			if err := os.WriteFile(path, []byte(text.(string)), 0o600); err != nil {
				t.Fatal(err)
			}
			check := exec.Command(filepath.Join(programs, "damask-"+process), "-check", "-config", path)
			check.Env = append(os.Environ(), "DAMASK_NODE=node1", "DAMASK_HOST_IP=192.0.2.11")
			if out, err := check.CombinedOutput(); err != nil {
				t.Errorf("%s: %v\n%s\n%s", key, err, out, text)
			}
		}
	}
	if files != 9 {
		t.Errorf("there are %d files, want one a process and two of groups", files)
	}
}
