package firewallfile_test

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/damask-sdn/damask/cmd/damask/internal/firewallfile"
	egressv1 "github.com/damask-sdn/damask/proto/damask/egress/v1"
)

func load(t *testing.T, text string) (*firewallfile.Document, error) {
	t.Helper()
	path := filepath.Join(t.TempDir(), "firewalls.yaml")
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return firewallfile.Load(path)
}

func TestAFileIsReadAsTheServiceTakesIt(t *testing.T) {
	d, err := load(t, `
egressFirewalls:
  - namespace: red
    order: 7
    egress:
      - {type: Allow, to: {cidrSelector: 192.0.2.0/24}, ports: [{port: 80, endPort: 90}, {protocol: UDP}]}
      - {type: Allow, to: {dnsName: "*.example.com"}}
`)
	if err != nil {
		t.Fatal(err)
	}
	p := d.EgressFirewalls[0].Message()
	first, second := p.GetRules()[0], p.GetRules()[1]
	if p.GetName() != "default" || p.GetOrder() != 7 || first.GetType() != egressv1.RuleType_RULE_TYPE_ALLOW || first.GetCidrSelector() != "192.0.2.0/24" ||
		first.GetPorts()[0].GetProtocol() != egressv1.Protocol_PROTOCOL_TCP || first.GetPorts()[0].GetEndPort() != 90 ||
		first.GetPorts()[1].GetProtocol() != egressv1.Protocol_PROTOCOL_UDP || second.GetDnsName() != "*.example.com" {
		t.Errorf("read as %v", p)
	}
}

func TestABadFileIsRefusedWithAllThatIsWrong(t *testing.T) {
	_, err := load(t, `
egressFirewalls:
  - namespace: Red
    name: "a_b"
    egress:
      - {type: Permit, to: {cidrSelector: 192.0.2.1/24}}
      - {type: Allow, to: {cidrSelector: 192.0.2.0/24, dnsName: a.example}}
      - {type: Allow, to: {}}
      - {type: Deny, to: {dnsName: "*.example.com"}}
      - {type: Deny, to: {dnsName: "10.0.0.1"}}
      - {type: Deny, to: {cidrSelector: 0.0.0.0/0}, ports: [{protocol: ICMP}, {port: 70000}, {endPort: 5}, {port: 6, endPort: 5}]}
      - {type: Allow, to: {dnsName: "*.com"}}
      - {type: Allow, to: {dnsName: "www.*.com"}}
  - {namespace: blue}
  - {namespace: blue, name: default}
`)
	if err == nil {
		t.Fatal("it is taken")
	}
	for _, want := range []string{
		"egressFirewalls[0].namespace", "egressFirewalls[0].name", "egress[0].type", "egress[0].to.cidrSelector", "egress[1].to", "egress[2].to",
		"egress[3].to.dnsName", "egress[4].to.dnsName", "egress[5].ports[0].protocol", "egress[5].ports[1].port", "egress[5].ports[2].endPort",
		"egress[5].ports[3].endPort", "egress[6].to.dnsName", "egress[7].to.dnsName", "egressFirewalls[2].name",
	} {
		if !strings.Contains(err.Error(), want) {
			t.Errorf("%s is not named:\n%v", want, err)
		}
	}
	if _, err := load(t, "egressFirewalls: []\n"); err == nil {
		t.Error("a file without firewalls is taken")
	}
}
