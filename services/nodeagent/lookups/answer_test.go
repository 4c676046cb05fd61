package lookups

import (
	"bytes"
	"encoding/binary"
	"net"
	"strings"
	"testing"

	"github.com/miekg/dns"
)

const ethernetHeader, ipv4Header = 14, 20

// inFrame is a UDP packet in IPv4 in Ethernet.
func inFrame(payload []byte) []byte {
	f := append(make([]byte, 12), 8, 0)
	f = append(f, 0x45, 0)
	f = binary.BigEndian.AppendUint16(f, uint16(ipv4Header+udpHeader+len(payload)))
	f = append(f, 0, 0, 0x40, 0, 64, 17, 0, 0, 192, 0, 2, 53, 10, 128, 0, 2)
	f = append(f, 0, 53, 0x80, 0)
	f = binary.BigEndian.AppendUint16(f, uint16(udpHeader+len(payload)))
	return append(append(f, 0, 0), payload...)
}

// answer is the answer to a question for a name's addresses, changed as a case asks for.
func answer(t testing.TB, name string, change func(*dns.Msg)) []byte {
	t.Helper()
	m := new(dns.Msg)
	m.SetQuestion(name+".", dns.TypeA)
	m.Response = true
	m.Answer = []dns.RR{&dns.A{Hdr: dns.RR_Header{Name: name + ".", Rrtype: dns.TypeA, Class: dns.ClassINET, Ttl: 5}, A: net.IPv4(192, 0, 2, 1)}}
	if change != nil {
		change(m)
	}
	packed, err := m.Pack()
	if err != nil {
		t.Fatal(err)
	}
	return inFrame(packed)
}

func TestWhichAnswersNameAName(t *testing.T) {
	many := func(m *dns.Msg) {
		for range 200 {
			m.Answer = append(m.Answer, m.Answer[0])
		}
	}
	whole := answer(t, "www.example.com", many)
	first := bytes.Clone(whole[:ethernetHeader+ipv4Header+udpHeader+512])
	binary.BigEndian.PutUint16(first[16:], ipv4Header+udpHeader+512)
	first[20] |= 0x20 // More fragments.
	later := bytes.Clone(first)
	later[21] = 64
	options := bytes.Clone(answer(t, "www.example.com", nil))
	options = append(options[:34], append([]byte{1, 1, 1, 0}, options[34:]...)...)
	options[14] = 0x46
	binary.BigEndian.PutUint16(options[16:], binary.BigEndian.Uint16(options[16:])+4)
	for name, c := range map[string]struct {
		frame []byte
		want  string
	}{
		"an address":          {answer(t, "www.example.com", nil), "www.example.com"},
		"capital letters":     {answer(t, "WWW.Example.COM", nil), "www.example.com"},
		"padding of Ethernet": {append(answer(t, "www.example.com", nil), 0, 0, 0), "www.example.com"},
		"options of IP":       {options, "www.example.com"},
		"an alias": {answer(t, "www.example.com", func(m *dns.Msg) {
			m.Answer = []dns.RR{&dns.CNAME{Hdr: dns.RR_Header{Name: "www.example.com.", Rrtype: dns.TypeCNAME, Class: dns.ClassINET}, Target: "x.example.net."}}
		}), "www.example.com"},
		"cut short by the server":  {answer(t, "www.example.com", func(m *dns.Msg) { m.Truncated, m.Answer = true, nil }), "www.example.com"},
		"a first fragment":         {first, "www.example.com"},
		"a later fragment":         {later, ""},
		"a question":               {answer(t, "www.example.com", func(m *dns.Msg) { m.Response = false }), ""},
		"no such name":             {answer(t, "www.example.com", func(m *dns.Msg) { m.Rcode, m.Answer = dns.RcodeNameError, nil }), ""},
		"a failure":                {answer(t, "www.example.com", func(m *dns.Msg) { m.Rcode = dns.RcodeServerFailure }), ""},
		"no address":               {answer(t, "www.example.com", func(m *dns.Msg) { m.Answer = nil }), ""},
		"IPv6":                     {answer(t, "www.example.com", func(m *dns.Msg) { m.Question[0].Qtype = dns.TypeAAAA }), ""},
		"another class":            {answer(t, "www.example.com", func(m *dns.Msg) { m.Question[0].Qclass = dns.ClassCHAOS }), ""},
		"two questions":            {answer(t, "www.example.com", func(m *dns.Msg) { m.Question = append(m.Question, m.Question[0]) }), ""},
		"an update":                {answer(t, "www.example.com", func(m *dns.Msg) { m.Opcode = dns.OpcodeUpdate }), ""},
		"a name that is none":      {answer(t, `a\000b.example.com`, nil), ""},
		"an address as a name":     {answer(t, "192.0.2.1", nil), ""},
		"the root":                 {answer(t, "", func(m *dns.Msg) { m.Question[0].Name = "."; m.Answer[0].Header().Name = "." }), ""},
		"another protocol":         {append(append(make([]byte, 12), 8, 6), make([]byte, 40)...), ""},
		"nothing":                  {nil, ""},
		"a header without payload": {answer(t, "www.example.com", nil)[:ethernetHeader+ipv4Header], ""},
	} {
		if got, ok := named(c.frame); ok != (c.want != "") || ok && got != c.want {
			t.Errorf("%s: got %q, %t, want %q", name, got, ok, c.want)
		}
	}
}

func FuzzAnswer(f *testing.F) {
	f.Add(answer(f, "www.example.com", nil))
	f.Add(answer(f, "www.example.com", func(m *dns.Msg) { m.Truncated, m.Answer = true, nil }))
	f.Fuzz(func(t *testing.T, packet []byte) {
		name, ok := named(packet)
		if ok && (name == "" || len(name) > maxName || strings.ToLower(name) != name || strings.HasSuffix(name, ".")) {
			t.Errorf("named %q", name)
		}
	})
}
