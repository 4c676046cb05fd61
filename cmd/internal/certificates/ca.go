package certificates

import (
	"bytes"
	"context"
	"fmt"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/damask-sdn/damask/internal/identity/authority"
)

// Keys of the CA's Secret: the CA that issues, one that is to follow it, and the one before,
// whose certificates are still in use.
const (
	nextCertificate, nextKey = "next.crt", "next.key"
	previousCertificate      = "previous.crt"
)

// cas are the CAs of a cluster at one moment.
type cas struct {
	active, next *authority.Authority
	previous     []byte // certificate, PEM
}

// bundle is whom everybody is to trust.
func (c *cas) bundle() []byte {
	all := [][]byte{bytes.TrimSpace(c.active.CertificatePEM())}
	if c.next != nil {
		all = append(all, bytes.TrimSpace(c.next.CertificatePEM()))
	}
	if len(c.previous) > 0 {
		all = append(all, bytes.TrimSpace(c.previous))
	}
	return append(bytes.Join(all, []byte("\n")), '\n')
}

// cas answers the CAs, after it has made, introduced or replaced what was due.
func (k *Keeper) cas(ctx context.Context) (*cas, error) {
	secret, err := k.secrets().Get(ctx, CAName, metav1.GetOptions{})
	if apierrors.IsNotFound(err) && k.owns() {
		return k.createCA(ctx)
	}
	if err != nil {
		return nil, fmt.Errorf("get the CA: %w", err)
	}
	c, err := k.read(secret)
	if err != nil {
		return nil, fmt.Errorf("secret %s: %w", CAName, err)
	}
	if !k.owns() {
		return c, nil
	}
	what, err := k.rotate(c)
	if err != nil || what == "" {
		return c, err
	}
	if secret.Data, err = c.data(); err != nil {
		return nil, err
	}
	if _, err := k.secrets().Update(ctx, secret, metav1.UpdateOptions{}); err != nil {
		return nil, fmt.Errorf("write the CA: %w", err)
	}
	k.Log.Info(what)
	return c, nil
}

func (k *Keeper) createCA(ctx context.Context) (*cas, error) {
	made, err := authority.NewAt(k.TrustDomain, k.CALifetime, k.Now)
	if err != nil {
		return nil, err
	}
	c := &cas{active: made}
	secret := k.secret(CAName)
	if secret.Data, err = c.data(); err != nil {
		return nil, err
	}
	// Of several that make one, one makes it; the others find it at their next look.
	if _, err := k.secrets().Create(ctx, secret, metav1.CreateOptions{}); err != nil {
		return nil, fmt.Errorf("create the CA: %w", err)
	}
	k.Log.Info("made the CA")
	return c, nil
}

func (k *Keeper) read(secret *corev1.Secret) (*cas, error) {
	c := &cas{previous: secret.Data[previousCertificate]}
	var err error
	if c.active, err = authority.Parse(k.TrustDomain, secret.Data[corev1.TLSCertKey], secret.Data[corev1.TLSPrivateKeyKey], k.Now); err != nil {
		return nil, err
	}
	if len(secret.Data[nextCertificate]) > 0 {
		if c.next, err = authority.Parse(k.TrustDomain, secret.Data[nextCertificate], secret.Data[nextKey], k.Now); err != nil {
			return nil, fmt.Errorf("%s: %w", nextCertificate, err)
		}
	}
	return c, nil
}

func (c *cas) data() (map[string][]byte, error) {
	key, err := c.active.KeyPEM()
	if err != nil {
		return nil, err
	}
	data := map[string][]byte{corev1.TLSCertKey: c.active.CertificatePEM(), corev1.TLSPrivateKeyKey: key}
	if c.next != nil {
		if data[nextKey], err = c.next.KeyPEM(); err != nil {
			return nil, err
		}
		data[nextCertificate] = c.next.CertificatePEM()
	}
	if len(c.previous) > 0 {
		data[previousCertificate] = c.previous
	}
	return data, nil
}

// rotate takes the one step that is due, and says which; "": none. A new CA issues nothing
// before everybody has had the time to hear of it, and the one before it is trusted as long
// as it is good.
func (k *Keeper) rotate(c *cas) (what string, err error) {
	now := k.Now()
	switch {
	case c.next == nil && !now.Before(renewAt(c.active.Certificate())):
		c.next, err = authority.NewAt(k.TrustDomain, k.CALifetime, k.Now)
		return "made a CA that will follow", err
	case c.next != nil && !now.Before(c.next.Certificate().NotBefore.Add(k.Spread)):
		c.previous, c.active, c.next = c.active.CertificatePEM(), c.next, nil
		return "the new CA issues from now on", nil
	case len(c.previous) > 0 && ended(c.previous, now):
		c.previous = nil
		return "the previous CA has ended", nil
	}
	return "", nil
}

func ended(certificate []byte, now time.Time) bool {
	c, err := parseCertificate(certificate)
	return err != nil || now.After(c.NotAfter)
}
