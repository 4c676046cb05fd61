package cli

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/damask-sdn/damask/internal/configfile/configfiletest"
)

func TestTheReferenceFileDocumentsEveryField(t *testing.T) {
	configfiletest.Documented(t, "../../../../deploy/config/damask.yaml", &clusterFile{})
	cluster, err := loadCluster("../../../../deploy/config/damask.yaml")
	if err != nil {
		t.Fatal(err)
	}
	if cluster.TLS.Certificate != "../../../../deploy/config/tls.crt" {
		t.Errorf("the certificate is %s, want it beside the file", cluster.TLS.Certificate)
	}
}

func TestAWrongFileSaysAllThatIsWrong(t *testing.T) {
	path := filepath.Join(t.TempDir(), "cluster.yaml")
	text := "ipam: [somewhere]\nagentPort: 0\nagents: {node1: x}\nsurprise: 1\negress: [elsewhere]\ntls: {certificate: a}\n"
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	_, err := loadCluster(path)
	if err == nil {
		t.Fatal("it was accepted")
	}
	for _, part := range []string{":1: ipam[0]", "tenancy: at least one", "servicelb: at least one", ":2: agentPort", ":3: agents.node1", ":4: surprise", ":5: egress[0]", "tls.key", "tls.ca"} {
		if !contains(err.Error(), part) {
			t.Errorf("%q is missing in:\n%v", part, err)
		}
	}
	if _, err := loadCluster(path + ".gone"); err == nil || err.Error() != "there is no file "+path+".gone" {
		t.Errorf("a file that is not there: %v", err)
	}
}
