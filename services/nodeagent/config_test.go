package nodeagent

import (
	"net/netip"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"

	"github.com/damask-sdn/damask/internal/configfile/configfiletest"
)

const reference = "../../deploy/config/nodeagent.yaml"

func TestTheReferenceFileDocumentsEveryField(t *testing.T) {
	configfiletest.Documented(t, reference, &Config{})
}

func TestTheReferenceFileHoldsTheDefaults(t *testing.T) {
	cfg, err := Load(reference)
	if err != nil {
		t.Fatal(err)
	}
	want := Defaults()
	if cfg.Datapath != want.Datapath || cfg.Listen != want.Listen || cfg.Metrics != want.Metrics || cfg.OVS != want.OVS ||
		cfg.CNISocket != want.CNISocket || cfg.Kubernetes != want.Kubernetes || cfg.StateDir != want.StateDir || cfg.AuditInterval != want.AuditInterval ||
		!reflect.DeepEqual(cfg.Services, Services{Engine: want.Services.Engine, NodePortNetworks: []netip.Prefix{}}) {
		t.Errorf("the reference file says %+v, the defaults are %+v", cfg, want)
	}
}

func TestEveryWrongLineIsNamed(t *testing.T) {
	data, err := os.ReadFile(reference)
	if err != nil {
		t.Fatal(err)
	}
	text := string(data)
	for from, to := range map[string]string{
		"node: node1.example.com":     "node: Node_1",
		"hostIP: 192.0.2.11":          "hostIP: 127.0.0.1",
		"datapath: auto":              "datapath: dpdk",
		"listen: 0.0.0.0:9445":        "listen: 9445",
		"auditInterval: 3m":           "auditInterval: 1s",
		"masqueradeBit: 0":            "masqueradeBit: 32",
		"requestedSubnets: []":        "requestedSubnets: [10.128.0.1/23]",
		`servers: ["192.0.2.1:9441"]`: "servers: []",
		`servers: ["192.0.2.1:9443"]`: "servers: [servicelb]",
		`servers: ["192.0.2.1:9444"]`: "servers: [egress]",
		"engine: iptables":            "engine: ipvs",
		`zone: ""`:                    "zone: -west",
		"nodePortNetworks: []":        "nodePortNetworks: [192.0.2.1/24]",
		`kubeconfig: ""`:              "kubeconfig: /etc/damask/kubeconfig",
		"qps: 5":                      "qps: -5",
	} {
		if !strings.Contains(text, from) {
			t.Fatalf("the reference file has no line %q", from)
		}
		text = strings.Replace(text, from, to, 1)
	}
	text += "\nsurprise: true\n"
	file := filepath.Join(t.TempDir(), "nodeagent.yaml")
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	_, err = Load(file)
	if err == nil {
		t.Fatal("a file with sixteen wrong lines was accepted")
	}
	for _, field := range []string{"node", "hostIP", "datapath", "listen", "auditInterval", "masqueradeBit", "requestedSubnets[0]", "ipam.servers", "surprise",
		"servicelb.servers[0]", "egress.servers[0]", "services.engine", "services.zone", "services.nodePortNetworks[0]",
		"kubernetes.kubeconfig", "kubernetes.qps"} {
		if !strings.Contains(err.Error(), ": "+field+": ") {
			t.Errorf("the error does not name %s:\n%v", field, err)
		}
	}
}

func TestAFileWithoutServicesIsValid(t *testing.T) {
	data, err := os.ReadFile(reference)
	if err != nil {
		t.Fatal(err)
	}
	text := strings.Replace(string(data), `servers: ["192.0.2.1:9443"]`, "servers: []", 1)
	file := filepath.Join(t.TempDir(), "nodeagent.yaml")
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	cfg, err := Load(file)
	if err != nil || len(cfg.ServiceLB.Servers) != 0 {
		t.Errorf("got servers %q, error %v", cfg.ServiceLB.Servers, err)
	}
}

func TestWhatIsEachNodesOwnMayComeFromTheEnvironment(t *testing.T) {
	data, err := os.ReadFile(reference)
	if err != nil {
		t.Fatal(err)
	}
	text := strings.Replace(strings.Replace(string(data), "node: node1.example.com\n", "", 1), "hostIP: 192.0.2.11\n", "", 1)
	shared := filepath.Join(t.TempDir(), "nodeagent.yaml")
	if err := os.WriteFile(shared, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := Load(shared); err == nil || !strings.Contains(err.Error(), "node:") || !strings.Contains(err.Error(), "hostIP:") {
		t.Errorf("a file without either is taken: %v", err)
	}
	t.Setenv(nodeVariable, "node7")
	t.Setenv(hostIPVariable, "192.0.2.17")
	for file, want := range map[string]string{shared: "node7 192.0.2.17", reference: "node1.example.com 192.0.2.11"} {
		cfg, err := Load(file)
		if err != nil {
			t.Fatal(err)
		}
		if got := cfg.Node + " " + cfg.HostIP.String(); got != want {
			t.Errorf("%s: %s, want %s", file, got, want)
		}
	}
	t.Setenv(hostIPVariable, "192.0.2")
	if _, err := Load(shared); err == nil || !strings.Contains(err.Error(), hostIPVariable) {
		t.Errorf("a wrong address in the environment is taken: %v", err)
	}
}
