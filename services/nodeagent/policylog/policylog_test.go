package policylog

import (
	"bytes"
	"encoding/hex"
	"net/netip"
	"strings"
	"testing"

	"github.com/hashicorp/go-hclog"

	"github.com/damask-sdn/damask/internal/policy"
	"github.com/damask-sdn/damask/services/nodeagent/intent"
	"github.com/damask-sdn/damask/services/nodeagent/openflow"
	"github.com/damask-sdn/damask/services/nodeagent/policyflow"
)

// book knows decisions by cookie.
type book map[uint64]intent.Decision

func (b book) DecisionOf(cookie uint64, _ uint8, src, dst netip.Addr) (intent.Decision, bool) {
	d, ok := b[cookie]
	return d, ok && src == netip.MustParseAddr("10.128.0.2") && dst == netip.MustParseAddr("10.128.0.3")
}

func TestALineSaysWhatWasDecidedAndAboutWhat(t *testing.T) {
	known := book{
		1: {Decision: policyflow.Decision{Policy: policy.Key{Kind: "NetworkPolicy", Namespace: "red", Name: "web"}, Rule: 3, Direction: policy.Ingress, Allowed: true}, Namespace: "red", Pod: "a"},
		2: {Decision: policyflow.Decision{Direction: policy.Egress}, Namespace: "red", Pod: "b"},
	}
	const ip, tcp = "0200000000020200000000010800" + "450000280000400040%s00000a8000020a800003", "80001f900000000000000000500200000000000000"
	for _, c := range []struct {
		cookie uint64
		frame  string
		want   string
	}{
		{1, strings.Replace(ip, "%s", "06", 1) + tcp, "verdict=allow direction=ingress pod=red/a policy=\"NetworkPolicy red/web\" rule=3 src=10.128.0.2 dst=10.128.0.3 protocol=TCP src_port=32768 port=8080"},
		{2, strings.NewReplacer("%s", "01", "45000028", "45000016").Replace(ip) + "0800", "verdict=deny direction=egress pod=red/b policy=isolation rule=none src=10.128.0.2 dst=10.128.0.3 protocol=ICMP src_port=0 port=0"},
		{2, strings.Replace(ip, "%s", "2f", 1) + tcp, "protocol=47 src_port=0 port=0"},
		{2, strings.NewReplacer("%s", "11", "45000028", "45000016").Replace(ip) + "8000", "protocol=UDP src_port=0 port=0"},
		{3, strings.Replace(ip, "%s", "06", 1) + tcp, ""},
		{1, strings.Replace(strings.Replace(ip, "0a800003", "0a800004", 1), "%s", "06", 1) + tcp, ""},
		{1, "02000000000202000000000186dd" + strings.Repeat("00", 40), ""},
		{1, "0200", ""},
	} {
		var out bytes.Buffer
		frame, err := hex.DecodeString(c.frame)
		if err != nil {
			t.Fatal(err)
		}
		New(known, hclog.New(&hclog.LoggerOptions{Output: &out, Level: hclog.Info})).Copied(openflow.PacketIn{Cookie: c.cookie, Table: 83, Packet: frame})
		if got := out.String(); c.want == "" && got != "" || !strings.Contains(got, c.want) || c.want != "" && !strings.Contains(got, "policylog: policy decision: ") {
			t.Errorf("of cookie %d the log says %q, want %q", c.cookie, got, c.want)
		}
	}
}

func FuzzFrame(f *testing.F) {
	f.Add([]byte("\x02\x00\x00\x00\x00\x02\x02\x00\x00\x00\x00\x01\x08\x00\x45\x00\x00\x28\x00\x00\x40\x00\x40\x06\x00\x00\x0a\x80\x00\x02\x0a\x80\x00\x03\x80\x00\x1f\x90"))
	f.Fuzz(func(t *testing.T, frame []byte) {
		if p, ok := read(frame); ok && (p.protocol == "" || !p.src.Is4() || !p.dst.Is4()) {
			t.Errorf("read %+v", p)
		}
	})
}
