package nodeagent

import (
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

func TestPodsAskWhomTheConfigurationOrTheMachineNames(t *testing.T) {
	file := filepath.Join(t.TempDir(), "resolv.conf")
	if err := os.WriteFile(file, []byte("search example.com\nnameserver 192.0.2.53\nnameserver 127.0.0.53\nnameserver 2001:db8::53\nnameserver 198.51.100.53\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	configured := []netip.AddrPort{netip.MustParseAddrPort("172.30.0.10:53")}
	for _, c := range []struct {
		configured []netip.AddrPort
		file       string
		want       []string
	}{
		{configured, file, []string{"172.30.0.10:53"}},
		{nil, file, []string{"192.0.2.53:53", "198.51.100.53:53"}},
		{nil, file + ".none", nil},
	} {
		servers, err := dnsServers(c.configured, c.file)
		var got []string
		for _, s := range servers {
			got = append(got, s.String())
		}
		if err != nil || !slices.Equal(got, c.want) {
			t.Errorf("configured %v, file %s: got %v, %v, want %v", c.configured, c.file, got, err, c.want)
		}
	}
}

func TestServersThatPodsCannotReachAreRefused(t *testing.T) {
	data, err := os.ReadFile(reference)
	if err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(t.TempDir(), "nodeagent.yaml")
	for server, ok := range map[string]bool{"192.0.2.53:53": true, "127.0.0.1:53": false, "[2001:db8::53]:53": false, "192.0.2.53:0": false, "0.0.0.0:53": false} {
		head, rest, _ := strings.Cut(string(data), "\ndns:\n")
		text := head + "\ndns:\n" + strings.Replace(rest, "servers: []", `servers: ["`+server+`"]`, 1)
		if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		if _, err := Load(file); (err == nil) != ok || err != nil && !strings.Contains(err.Error(), "dns.servers[0]") {
			t.Errorf("%s: got %v", server, err)
		}
	}
}
