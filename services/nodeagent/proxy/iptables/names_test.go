package iptables

import (
	"net/netip"
	"os"
	"strings"
	"testing"

	"go.yaml.in/yaml/v3"

	"github.com/damask-sdn/damask/services/nodeagent/proxy"
)

// observed is what was seen on a real node.
type observed struct {
	Names []struct {
		Service  string `yaml:"service"`
		PortName string `yaml:"port_name"`
		Protocol string `yaml:"protocol"`
		SVC      string `yaml:"svc"`
		Endpoint string `yaml:"endpoint"`
		SEP      string `yaml:"sep"`
	} `yaml:"names"`
	NAT []struct {
		Chain   string `yaml:"chain"`
		Rule    string `yaml:"rule"`
		Comment string `yaml:"comment"`
	} `yaml:"nat"`
}

func loadObserved(t *testing.T) observed {
	t.Helper()
	data, err := os.ReadFile("../../../../test/observed/iptables.yaml")
	if err != nil {
		t.Fatal(err)
	}
	var o observed
	if err := yaml.Unmarshal(data, &o); err != nil {
		t.Fatal(err)
	}
	if len(o.Names) == 0 || len(o.NAT) == 0 {
		t.Fatal("the observed file holds no names or no rules")
	}
	return o
}

func keyOf(t *testing.T, service, portName, protocol string) proxy.Key {
	t.Helper()
	namespace, name, ok := strings.Cut(service, "/")
	if !ok {
		t.Fatalf("service %q is no namespace and name", service)
	}
	return proxy.Key{Namespace: namespace, Name: name, PortName: portName, Protocol: proxy.Protocol(strings.ToUpper(protocol))}
}

func TestNamesAreThoseThatWereObserved(t *testing.T) {
	for _, n := range loadObserved(t).Names {
		key := keyOf(t, n.Service, n.PortName, n.Protocol)
		if got := serviceChain(prefixService, key); got != n.SVC {
			t.Errorf("%s: got chain %s, want %s", n.Service, got, n.SVC)
		}
		if got := backendChain(key, netip.MustParseAddrPort(n.Endpoint)); got != n.SEP {
			t.Errorf("%s: got chain %s, want %s", n.Endpoint, got, n.SEP)
		}
	}
}
