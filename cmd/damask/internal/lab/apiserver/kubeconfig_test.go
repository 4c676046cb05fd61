package apiserver

import (
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"k8s.io/client-go/tools/clientcmd"
)

// kubeconfig writes a file with a cluster and a user, and a second context that nobody uses.
func kubeconfig(t *testing.T, cluster, user string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "kubeconfig")
	text := `
apiVersion: v1
kind: Config
current-context: here
contexts:
- {name: here, context: {cluster: a, user: b}}
- {name: there, context: {cluster: other, user: other}}
clusters:
- {name: a, cluster: ` + cluster + `}
- {name: other, cluster: {server: "http://nobody"}}
users:
- {name: b, user: ` + user + `}
- {name: other, user: {tokenFile: /nowhere}}
`
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

func TestAUserStaysWhoItIsBehindTheRelay(t *testing.T) {
	path := kubeconfig(t, `{server: "https://127.0.0.1:36443/behind", certificate-authority: ca.crt}`, `{token: secret}`)
	if err := os.WriteFile(filepath.Join(filepath.Dir(path), "ca.crt"), []byte("authority"), 0o600); err != nil {
		t.Fatal(err)
	}
	k, err := Read(path)
	if err != nil {
		t.Fatal(err)
	}
	if k.Server.String() != "127.0.0.1:36443" {
		t.Errorf("the API server is at %s", k.Server)
	}
	written := filepath.Join(t.TempDir(), "users", "ipam")
	if err := k.Write(written, netip.MustParseAddrPort("192.168.108.254:6443")); err != nil {
		t.Fatal(err)
	}
	got, err := clientcmd.BuildConfigFromFlags("", written)
	if err != nil {
		t.Fatal(err)
	}
	if got.Host != "https://192.168.108.254:6443/behind" || got.BearerToken != "secret" || string(got.CAData) != "authority" || got.ServerName != "127.0.0.1" {
		t.Errorf("got %s with token %q, authority %q, name %q", got.Host, got.BearerToken, got.CAData, got.ServerName)
	}
	text, err := os.ReadFile(written)
	if err != nil || strings.Contains(string(text), "nowhere") {
		t.Errorf("%v; others' users are in\n%s", err, text)
	}
	if info, err := os.Stat(written); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("%v, %v", info, err)
	}
}

func TestAKubeconfigThatIsOfNoUseInALabIsRefused(t *testing.T) {
	const server, user = `{server: "https://192.0.2.1:6443"}`, `{token: secret}`
	for name, c := range map[string]struct{ cluster, user, want string }{
		"a name":          {`{server: "https://api.example.com:6443"}`, user, `server: "api.example.com" is not an IP address`},
		"no TLS":          {`{server: "http://192.0.2.1:8080"}`, user, "does not begin with https://"},
		"a proxy":         {`{server: "https://192.0.2.1", proxy-url: "http://192.0.2.2"}`, user, "proxy-url: a lab knows no proxies"},
		"a program":       {server, `{exec: {apiVersion: client.authentication.k8s.io/v1, command: login}}`, "exec: a user in a lab has a certificate or a token"},
		"a token's file":  {server, `{tokenFile: /var/run/token}`, "tokenFile: only token"},
		"a missing file":  {server, `{client-certificate: gone.crt}`, "gone.crt"},
		"two problems":    {`{server: "http://192.0.2.1"}`, `{tokenFile: /a}`, "tokenFile: only token: a file that changes does not get into a lab\nserver:"},
		"a missing key":   {`{server: "https://192.0.2.1", certificate-authority: gone.ca}`, user, "gone.ca"},
		"no YAML":         {`{`, user, "kubeconfig "},
		"a port of words": {`{server: "https://192.0.2.1:https"}`, user, "server: "},
	} {
		if _, err := Read(kubeconfig(t, c.cluster, c.user)); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: got %v, want %s", name, err, c.want)
		}
	}
	empty := filepath.Join(t.TempDir(), "empty")
	if err := os.WriteFile(empty, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	for _, path := range []string{empty, empty + "-gone"} {
		if _, err := Read(path); err == nil || !strings.Contains(err.Error(), path) {
			t.Errorf("%s: got %v", path, err)
		}
	}
}

func TestUsersOfDifferentAPIServersAreRefused(t *testing.T) {
	const user = `{token: secret}`
	one, two := kubeconfig(t, `{server: "https://192.0.2.1:1"}`, user), kubeconfig(t, `{server: "https://192.0.2.1:2"}`, user)
	all, err := ReadAll(map[string]string{"ipam": one, "tenancy": one})
	if err != nil || len(all) != 2 || all["tenancy"].Server.Port() != 1 {
		t.Errorf("got %v, %v", all, err)
	}
	if _, err = ReadAll(map[string]string{"ipam": one, "tenancy": two, "egress": two}); err == nil ||
		strings.Count(err.Error(), "different API servers") != 1 {
		t.Errorf("got %v, want one problem", err)
	}
}
