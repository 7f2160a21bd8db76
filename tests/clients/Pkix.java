import java.io.BufferedReader;
import java.io.FileInputStream;
import java.io.InputStreamReader;
import java.security.cert.CertPath;
import java.security.cert.CertPathValidator;
import java.security.cert.CertPathValidatorException;
import java.security.cert.CertificateFactory;
import java.security.cert.CertificateRevokedException;
import java.security.cert.PKIXParameters;
import java.security.cert.PKIXRevocationChecker;
import java.security.cert.TrustAnchor;
import java.security.cert.X509Certificate;
import java.util.EnumSet;
import java.util.List;
import java.util.Set;

/**
 * The PKIX revocation checker, by OCSP alone. Reads lines "issuer leaf outcome" from standard input; arguments: the
 * directory, and what to call this run. The responder's URL is that in the leaf.
 */
public class Pkix {
    static X509Certificate certificate(String file) throws Exception {
        try (FileInputStream in = new FileInputStream(file)) {
            return (X509Certificate) CertificateFactory.getInstance("X.509").generateCertificate(in);
        }
    }

    /** "good", "revoked:" and the reason, or what else the checker says. */
    static String validate(X509Certificate ca, X509Certificate leaf) throws Exception {
        CertPathValidator validator = CertPathValidator.getInstance("PKIX");
        PKIXRevocationChecker checker = (PKIXRevocationChecker) validator.getRevocationChecker();
        checker.setOptions(EnumSet.of(
            PKIXRevocationChecker.Option.ONLY_END_ENTITY, PKIXRevocationChecker.Option.NO_FALLBACK));
        PKIXParameters parameters = new PKIXParameters(Set.of(new TrustAnchor(ca, null)));
        parameters.addCertPathChecker(checker);
        CertPath path = CertificateFactory.getInstance("X.509").generateCertPath(List.of(leaf));
        try {
            validator.validate(path, parameters);
            return "good";
        } catch (CertPathValidatorException e) {
            if (e.getReason() == CertPathValidatorException.BasicReason.REVOKED
                && e.getCause() instanceof CertificateRevokedException revoked) {
                return "revoked:" + revoked.getRevocationReason();
            }
            return e.getReason() + ":" + e.getMessage();
        }
    }

    public static void main(String[] arguments) throws Exception {
        boolean failed = false;
        BufferedReader lines = new BufferedReader(new InputStreamReader(System.in));
        for (String line = lines.readLine(); line != null; line = lines.readLine()) {
            String[] words = line.split(" ", 3);
            String name = "java: " + words[0] + " " + words[1] + ", " + arguments[1];
            String got;
            try {
                String base = arguments[0] + "/" + words[0] + "/";
                got = validate(certificate(base + "ca.pem"), certificate(base + words[1] + ".pem"));
            } catch (Exception e) {
                got = e.toString();
            }
            if (got.contains(words[2])) {
                System.out.println("ok " + name);
            } else {
                System.out.println("FAIL " + name + ": " + got + " instead of " + words[2]);
                failed = true;
            }
        }
        System.exit(failed ? 1 : 0);
    }
}
